"""Types that all audio code shares: samples, limits, facts about a file, output formats."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

Progress = Callable[[float], None]
"""Called with the fraction done in [0, 1], which never falls. It raises `StoppedError` to stop the work."""

Source = BinaryIO | Path
"""A seekable binary file or a local path. Never a string, which FFmpeg would take for a URL."""

Destination = BinaryIO | Path

Format = Literal["flac", "wav", "mp3", "m4a", "opus"]
FORMATS: tuple[Format, ...] = ("flac", "wav", "mp3", "m4a", "opus")

CONTENT_TYPES: Mapping[Format, str] = {
    "flac": "audio/flac",
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "m4a": "audio/mp4",
    "opus": "audio/ogg; codecs=opus",
}
EXTENSIONS: Mapping[Format, str] = {
    "flac": ".flac",
    "wav": ".wav",
    "mp3": ".mp3",
    "m4a": ".m4a",
    "opus": ".opus",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of accepted files.

    Args:
        max_seconds: longest sound, measured while decoding, because a header can be wrong.
        max_bytes: largest file.
        max_channels: most channels.
    """

    max_seconds: float = 1800.0
    max_bytes: int = 500_000_000
    max_channels: int = 32


NO_LIMITS = Limits(max_seconds=float("inf"), max_bytes=2**63 - 1)
"""For files that StemTube has made itself."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something about a file that was read nevertheless.

    Args:
        reason: a stable name; `verdict` and `Reader` list them.
        message: for people.
    """

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """Facts about a file.

    Args:
        duration_seconds: exact after a decode; after `probe` that of the header, 0 if it has none.
        samples: per channel at `sample_rate_hz`; 0 after `probe`.
        sample_rate_hz: of the file.
        channels: of the file.
        codec: FFmpeg's name, e.g. `mp3`, `flac`, `pcm_s16le`.
        container: short name, e.g. `mp3`, `mp4`, `matroska`, `wav`.
        bit_rate: bits per second over the whole file; 0 if unknown.
        tags: lower case name to text, those of `title`, `artist`, `album`, `album_artist`, `date`, `genre`, `track`,
            `composer` that the file has.
        notes: on its faults, and on how it was read; known after a decode.
    """

    duration_seconds: float
    samples: int
    sample_rate_hz: int
    channels: int
    codec: str
    container: str
    bit_rate: int
    tags: Mapping[str, str]
    notes: tuple[Note, ...] = ()
