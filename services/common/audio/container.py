"""Opens untrusted files: FFmpeg sees one file object, a short list of formats, and nothing else.

FFmpeg has demuxers that read other files or the network because a playlist says so (hls, concat, dash, sdp, image2 …).
Here a format must be on the list, the file has no name (so no extension and no sibling), and every attempt to open
something else is refused.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import av
import av.container
from av.audio.stream import AudioStream
from av.error import EOFError as FFmpegEOFError
from av.error import FFmpegError, InvalidDataError
from av.stream import Discard

from services.common.audio.endings import Ending, ending
from services.common.audio.foreign_tags import bounds
from services.common.audio.known_formats import HEAD_BYTES, known_format
from services.common.audio.types import Limits, Source
from services.common.audio.verdict import cut_off, damaged
from services.common.errors import InvalidInputError, LimitExceededError, StemTubeError

_DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,eac3,flac,flv,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpc,mpc8,mpeg,mpegts,"
    "ogg,tak,tta,w64,wav,wv"
)
_DECODERS = (
    "aac,aac_latm,ac3,adpcm_ima_qt,adpcm_ima_wav,adpcm_ms,alac,amrnb,amrwb,ape,dca,eac3,flac,gsm,gsm_ms,"
    "libopencore_amrnb,libopencore_amrwb,libopus,mlp,mp1,mp1float,mp2,mp2float,mp3,mp3float,mpc7,mpc8,opus,pcm_alaw,"
    "pcm_bluray,pcm_dvd,pcm_f32be,pcm_f32le,pcm_f64be,pcm_f64le,pcm_mulaw,pcm_s16be,pcm_s16le,pcm_s24be,pcm_s24le,"
    "pcm_s32be,pcm_s32le,pcm_s8,pcm_u16be,pcm_u16le,pcm_u24be,pcm_u24le,pcm_u32be,pcm_u32le,pcm_u8,speex,tak,truehd,"
    "tta,vorbis,wavpack,wmalossless,wmapro,wmav1,wmav2"
)
_SUPPORTED = frozenset(_DECODERS.split(","))
_OPTIONS = {"format_whitelist": _DEMUXERS, "codec_whitelist": _DECODERS, "protocol_whitelist": "none"}
_SIGNATURES = (b"fLaC", b"FORM", b"caff", b"wvpk", b"MAC ", b"TTA1", b"tBaK")
_NAMES = {"mov,mp4,m4a,3gp,3g2,mj2": "mp4", "matroska,webm": "matroska"}
_FARTHEST_BYTES = 1 << 40
_CLEARLY_MISSING = 0.1
"""Share of the bytes without which a file need not be decoded to know that it is cut off; see `verdict`."""


class SourceFile:
    """The file as FFmpeg sees it: bytes without a name, and without foreign tags. Records how far it was read.

    Args:
        source: the file.

    Attributes:
        size: in bytes, with all tags.
        ending: where its sound ends.
    """

    def __init__(self, source: Source) -> None:
        self._owned = source.open("rb") if isinstance(source, Path) else None
        self.raw: BinaryIO = self._owned or source  # type: ignore[assignment]
        self.size = self.raw.seek(0, os.SEEK_END)
        self.position = 0
        self._start, self._end = 0, self.size
        self.ending = Ending()

    def look_around(self) -> None:
        """Finds foreign tags, which are hidden from then on, and the ending."""
        self._start, self._end = bounds(self.raw)
        self.ending = ending(self)
        self.seek(0)

    def read(self, size: int) -> bytes:
        """Up to `size` bytes."""
        start = self.position
        data = self.raw.read(max(min(size, self._end - self._start - start), 0))
        self.position += len(data)
        for at, patch in self.ending.patches.items():
            if start < at + len(patch) and at < self.position:
                data = _patched(data, at - start, patch)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves to a byte; returns its position, or -1 (FFmpeg's sign of failure) if a file has no such position.

        A damaged header can ask for any position. Systems and stores differ in which they allow and what they raise.
        """
        end = self._end - self._start
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: end}[whence]
        if not 0 <= start + offset <= _FARTHEST_BYTES:
            return -1
        self.position = self.raw.seek(self._start + start + offset, os.SEEK_SET) - self._start
        return self.position

    def tell(self) -> int:
        """The position of the next byte."""
        return self.position

    def close(self) -> None:
        """Closes the file if it was opened here, from a path."""
        if self._owned is not None:
            self._owned.close()


def _patched(data: bytes, at: int, patch: bytes) -> bytes:
    """Replaces the bytes from `at`, which may lie outside in part."""
    changed = bytearray(data)
    for number, byte in enumerate(patch, at):
        if 0 <= number < len(changed):
            changed[number] = byte
    return bytes(changed)


@contextlib.contextmanager
def open_source(source: Source, limits: Limits) -> Iterator[SourceFile]:
    """Opens the source as a file and checks its size.

    Raises:
        InvalidInputError: reason EMPTY_FILE.
        LimitExceededError: reason TOO_LARGE.
    """
    file = SourceFile(source)
    try:
        if file.size == 0:
            raise InvalidInputError("the file is empty", "EMPTY_FILE")
        if file.size > limits.max_bytes:
            raise LimitExceededError(
                f"the file is larger than {limits.max_bytes / 1e6:.0f} MB", "TOO_LARGE", max_bytes=str(limits.max_bytes)
            )
        yield file
    finally:
        file.close()


@contextlib.contextmanager
def open_stream(file: SourceFile, limits: Limits) -> Iterator[tuple[av.container.InputContainer, AudioStream]]:
    """The container and its best audio stream; all other streams are skipped.

    Raises:
        InvalidInputError: reasons NOT_AUDIO, NO_AUDIO_STREAM, NO_SAMPLES, TRUNCATED, CORRUPT, UNSUPPORTED_CODEC,
            DECODER_LIMIT.
        LimitExceededError: reason TOO_MANY_CHANNELS.
    """
    file.look_around()
    known = known_format(file.read(HEAD_BYTES))
    if known is not None:
        raise known
    file.seek(0)
    if (file.ending.missing or 0.0) > _CLEARLY_MISSING:
        raise cut_off()
    try:
        container = av.open(
            file, mode="r", container_options=_OPTIONS, io_open=_refuse_other_files, metadata_encoding="latin-1"
        )
    except MemoryError as error:
        raise InvalidInputError("the file needs more memory than a decoder has", "DECODER_LIMIT") from error
    except FFmpegError as error:
        raise _unreadable(file, error) from error
    with container:
        stream = container.streams.best("audio")
        if stream is None:
            raise InvalidInputError("there is no sound in the file", "NO_AUDIO_STREAM")
        if not isinstance(stream, AudioStream) or not _can_decode(stream):
            raise InvalidInputError("the file's sound is in a format that is not supported", "UNSUPPORTED_CODEC")
        if stream.channels > limits.max_channels:
            raise LimitExceededError(
                f"the file has more than {limits.max_channels} channels",
                "TOO_MANY_CHANNELS",
                max_channels=str(limits.max_channels),
            )
        for other in container.streams:
            if other is not stream:
                other.discard = Discard.all
        yield container, stream


def container_name(container: av.container.InputContainer) -> str:
    """A short name of the format, e.g. `mp4`."""
    return _NAMES.get(container.format.name, container.format.name)


def _refuse_other_files(url: str, flags: int, options: dict[str, str]) -> Any:
    raise InvalidInputError("the file refers to other files", "NOT_AUDIO")


def _can_decode(stream: AudioStream) -> bool:
    context = stream.codec_context
    return context is not None and context.name in _SUPPORTED


def _unreadable(file: SourceFile, error: FFmpegError) -> StemTubeError:
    file.seek(0)
    head = file.read(4)
    not_audio = InvalidInputError("the file is neither audio nor video", "NOT_AUDIO")
    if not isinstance(error, InvalidDataError | FFmpegEOFError):
        return not_audio
    if file.ending.in_a_page:
        return cut_off()
    if isinstance(error, FFmpegEOFError) and (file.ending.missing == 0.0 or head == b"OggS"):
        return InvalidInputError("there are no samples in the file", "NO_SAMPLES")
    return damaged() if file.ending.missing == 0.0 or head in _SIGNATURES else not_audio
