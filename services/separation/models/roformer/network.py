"""The networks BS-RoFormer and Mel-Band RoFormer: masks for the spectrum of a mix, one for each stem."""

import torch
from torch import Tensor, nn

from services.separation.models.roformer.config import SHARED_BIASES, RoFormerConfig
from services.separation.models.roformer.layers import BandSplit, MaskEstimator, Norm, Transformer


class RoFormer(nn.Module):
    """Computes masks from the spectrum of a mix. Tensors have the names of the published checkpoints."""

    def __init__(self, config: RoFormerConfig) -> None:
        super().__init__()
        widths = [2 * config.channels * len(band) for band in config.bands]
        self._skips = config.skips
        self.layers = nn.ModuleList(
            nn.ModuleList(
                Transformer(config, depth, linear=part == 0) for part, depth in enumerate(config.depths) if depth
            )
            for _ in range(config.depth)
        )
        self.final_norm = Norm(config.dim) if config.kind == "bs" else nn.Identity()
        self.band_split = BandSplit(config.dim, widths)
        self.mask_estimators = nn.ModuleList(MaskEstimator(config, widths) for _ in range(config.stems))
        self._shared = config.shared_bias
        if config.shared_bias:
            for name, width in zip(SHARED_BIASES, (3 * config.heads * config.dim_head, config.dim), strict=True):
                self.register_parameter(name, nn.Parameter(torch.zeros(width)))

    def forward(self, spectrum: Tensor) -> Tensor:
        """Computes the masks.

        Args:
            spectrum: [batch, frames, values of all bands], where a band's values are its bins, of each the channels, of
                each the real and the imaginary part.

        Returns:
            [batch, stems, frames, values of all bands], in the same order.
        """
        biases = (self.get_parameter(SHARED_BIASES[0]), self.get_parameter(SHARED_BIASES[1])) if self._shared else None
        x = self.band_split(spectrum)
        batch, frames, bands, _ = x.shape
        earlier: list[Tensor] = []
        for block in self.layers:
            *linear, along_time, along_bands = block.children()
            for transformer in linear:
                x = transformer(x.flatten(1, 2), biases).view(batch, frames, bands, -1)
            for output in earlier:
                x = x + output
            x = along_time(x.transpose(1, 2).flatten(0, 1), biases).view(batch, bands, frames, -1).transpose(1, 2)
            x = along_bands(x.flatten(0, 1), biases).view(batch, frames, bands, -1)
            if self._skips:
                earlier.append(x)
        x = self.final_norm(x)
        return torch.stack([estimator(x) for estimator in self.mask_estimators], dim=1)


class Transforms:
    """The spectrum of a mix in the form of a network, and the stems of its masks, always in float32.

    Args:
        config: of the network.
        device: where it computes.
    """

    def __init__(self, config: RoFormerConfig, device: torch.device) -> None:
        self._config = config
        self._window = torch.hann_window(config.window, device=device)
        rows = [2 * bin_ for band in config.bands for bin_ in band]  # of a spectrum [bins * channels]
        if config.channels == 1:
            rows = [row // 2 for row in rows]
        self._rows = torch.tensor(rows, device=device)
        if config.channels == 2:
            self._rows = (self._rows[:, None] + torch.arange(2, device=device)).flatten()
        self._overlaps = config.kind == "mel"
        self._counts = torch.bincount(self._rows, minlength=config.bins * config.channels).clamp_min(1)

    def split(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        """The spectrum of waves.

        Args:
            wave: float32 [batch, channels, samples].

        Returns:
            The complex spectrum [batch, bins * channels, frames], and the input of the network.
        """
        spectrum = torch.stft(
            wave.flatten(0, 1),
            self._config.n_fft,
            self._config.hop,
            self._config.window,
            self._window,
            normalized=self._config.normalized,
            return_complex=True,
        )
        spectrum = spectrum.view(*wave.shape[:2], *spectrum.shape[1:]).transpose(1, 2).flatten(1, 2)
        parts = spectrum[:, self._rows] if self._overlaps else spectrum
        return spectrum, torch.view_as_real(parts).transpose(1, 2).flatten(2)

    def join(self, spectrum: Tensor, masks: Tensor, samples: int) -> Tensor:
        """The stems [batch, stems, channels, samples] of masks for a spectrum; where bands overlap, their mean counts.

        Args:
            spectrum: as returned by `split`.
            masks: float32 as returned by the network.
            samples: length of the waves.
        """
        config = self._config
        mask = torch.view_as_complex(masks.contiguous().view(*masks.shape[:3], -1, 2)).transpose(2, 3)
        if self._overlaps:
            summed = mask.new_zeros(*mask.shape[:2], spectrum.shape[1], mask.shape[3])
            mask = summed.index_add_(2, self._rows, mask) / self._counts[:, None]
        stems = (spectrum[:, None] * mask).view(*mask.shape[:2], config.bins, config.channels, -1)
        if config.zero_dc:
            stems[:, :, 0] = 0
        waves = torch.istft(
            stems.transpose(2, 3).flatten(0, 2),
            config.n_fft,
            config.hop,
            config.window,
            self._window,
            normalized=config.normalized,
            length=samples,
        )
        return waves.view(spectrum.shape[0], config.stems, config.channels, samples)
