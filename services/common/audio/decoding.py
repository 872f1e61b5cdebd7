"""Operations on a file: read its header, check it, inspect it, decode it.

Untrusted files are decoded in a sandbox, which adds its own errors to those named here.
"""

from dataclasses import dataclass

import numpy as np

from services.common.audio.loudness import LoudnessMeter
from services.common.audio.peaks import PeakMeter, Peaks
from services.common.audio.reader import BLOCK_SAMPLES
from services.common.audio.sandbox import Sandbox, open_reader
from services.common.audio.types import AudioInfo, Limits, Progress, Source
from services.common.samples import Samples


@dataclass(frozen=True, slots=True)
class Inspection:
    """Facts about a file that one full decode finds.

    Args:
        info: with exact duration.
        content_hash: SHA-256 in hex of the sound without tags; see `Reader.content_hash`.
        loudness_lufs: integrated loudness (EBU R 128), -70 for silence.
        peaks: for drawing the waveform.
        picture: the cover, see `covers.picture`.
    """

    info: AudioInfo
    content_hash: str
    loudness_lufs: float
    peaks: Peaks
    picture: bytes


def probe(source: Source, limits: Limits) -> AudioInfo:
    """Reads the header only, in a few milliseconds. The file may still turn out to be damaged or too long.

    Raises:
        InvalidInputError: reasons EMPTY_FILE, NOT_AUDIO, NO_AUDIO_STREAM, NO_SAMPLES, TRUNCATED, CORRUPT,
            UNSUPPORTED_CODEC.
        LimitExceededError: reasons TOO_LARGE, TOO_LONG, TOO_MANY_CHANNELS.
    """
    with open_reader(source, limits) as reader:
        return reader.info


def check(source: Source, limits: Limits, on_progress: Progress | None = None) -> AudioInfo:
    """Decodes the whole file and discards the sound.

    Returns:
        The info with the exact number of samples.

    Raises:
        InvalidInputError, LimitExceededError: as `probe`.
        Exception: what `on_progress` raises.
    """
    with open_reader(source, limits, on_progress) as reader:
        for _ in reader.blocks():
            pass
        return reader.info


def inspect(
    source: Source, limits: Limits, on_progress: Progress | None = None, sandbox: Sandbox | None = None
) -> Inspection:
    """As `check`; also finds content hash, loudness, peaks and cover, in one pass and bounded memory.

    Raises:
        InvalidInputError, LimitExceededError: as `probe`.
        Exception: what `on_progress` raises.
    """
    loudness: LoudnessMeter | None = None
    peaks: PeakMeter | None = None
    with open_reader(source, limits, on_progress, sandbox) as reader:
        for block in reader.blocks():
            if loudness is None or peaks is None:
                loudness = LoudnessMeter(reader.sample_rate_hz, reader.channel_names)
                peaks = PeakMeter(reader.sample_rate_hz)
            if block.shape[1]:
                loudness.add(block)
                peaks.add(block)
        assert loudness is not None, "a file without samples was refused"
        assert peaks is not None
        return Inspection(reader.info, reader.content_hash, loudness.lufs(), peaks.peaks(), reader.picture)


def decode(
    source: Source,
    limits: Limits,
    *,
    sample_rate_hz: int = 44100,
    channels: int = 2,
    on_progress: Progress | None = None,
    sandbox: Sandbox | None = None,
) -> Samples:
    """The whole sound, converted to one rate and number of channels.

    Encoder delay and padding of MP3, Opus, Vorbis and AAC are cut away if the file declares them. See `Converter`
    for how channels are mixed.

    Args:
        source: the file.
        limits: see `Limits`; half an hour of stereo at 44.1 kHz takes 635 MB.
        sample_rate_hz: of the result.
        channels: of the result, 1 or 2.
        on_progress: gets the share of the file that was read.
        sandbox: where to decode; None for this process.

    Returns:
        float32 [channels, samples], contiguous.

    Raises:
        InvalidInputError, LimitExceededError: as `probe`.
        Exception: what `on_progress` raises.
    """
    with open_reader(source, limits, on_progress, sandbox) as reader:
        expected = min(reader.info.duration_seconds, limits.max_seconds)
        sound = _Sound(channels, round(expected * sample_rate_hz) + BLOCK_SAMPLES)
        for block in reader.blocks(sample_rate_hz, channels):
            sound.append(block)
        return sound.samples()


class _Sound:
    """A growing float32 [channels, samples] array that is copied neither at the end nor, normally, while it grows.

    Reserved memory that is not used is never touched, so the system does not provide it.
    """

    def __init__(self, channels: int, capacity: int) -> None:
        self._samples: Samples = np.empty((channels, capacity), np.float32)
        self._length = 0

    def append(self, block: Samples) -> None:
        end = self._length + block.shape[1]
        if end > self._samples.shape[1]:
            grown = np.empty((len(self._samples), end * 3 // 2), np.float32)
            grown[:, : self._length] = self._samples[:, : self._length]
            self._samples = grown
        self._samples[:, self._length : end] = block
        self._length = end

    def samples(self) -> Samples:
        """Moves the channels together in place."""
        channels, capacity = self._samples.shape
        flat = self._samples.reshape(-1)
        # A memoryview moves overlapping ranges in place; numpy would make a copy of them first.
        view = flat.data
        for channel in range(1, channels):
            start = channel * self._length
            view[start : start + self._length] = view[channel * capacity : channel * capacity + self._length]
        return flat[: channels * self._length].reshape(channels, self._length)
