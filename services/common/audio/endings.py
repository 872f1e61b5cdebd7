"""Compares where a file's sound ends, as its container states it, with the bytes that are there.

FFmpeg plays a file that is cut off without an error. But a stated size is a hint only. Programs that write to a pipe
state a size before they know it: SoX 0x7FFFF000 (WAV) and 0x7F000000 (AIFF), others 0, 0x7FFFFFFF, 0x80000000,
0xFFFFFFFF, or one of these less a header. So a size means "unknown" if it is 0, at least `PLACEHOLDER`, or more than
`FAR` times what is there.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

PLACEHOLDER = 0x7F000000
FAR = 10

_HEADERS_BYTES = 1024
"""A file that ends before so many bytes of its sound has lost it, whatever its header states."""
_MAX_BOXES = 64
"""Most boxes before the sound; no writer makes more. FFmpeg takes 0.3 s per megabyte of empty ones in a WAV file."""
_OGG_TAIL_BYTES = 128 * 1024
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_HEADER_BYTES = 64 * 1024
_W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_W64_DATA = bytes.fromhex("64617461f3acd3118cd100c04f8edb8a")


class Bytes(Protocol):
    """A file that can be read at any position."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves to a byte; returns its position."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Where a file's sound ends.

    Args:
        missing: share of the stated bytes that the file lacks, in [0, 1]; None if it states none that can be believed.
        in_a_page: whether the last page of an Ogg file is incomplete.
        in_fragments: whether an MP4 file states only the length of each fragment.
        patches: by position, bytes to be read instead of the file's own, which FFmpeg would take for an error.
    """

    missing: float | None = None
    in_a_page: bool = False
    in_fragments: bool = False
    patches: Mapping[int, bytes] = field(default_factory=dict)


_NO_SOUND = Ending(missing=1.0)


def ending(file: Bytes) -> Ending:
    """Reads the sizes that RIFF (WAV, AVI), AIFF, AU, W64, CAF, MP4, Matroska, Ogg and ASF (WMA) files state.

    A file that begins with too many other boxes counts as cut off before its sound.

    Args:
        file: the file, without foreign tags around it.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(64)
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return _wav(file, size)
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return Ending(_missing(0, 8 + int.from_bytes(head[4:8], "little"), size))
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return _aiff(file, size)
    if head[:4] == b".snd" and len(head) >= 24:
        return _au(head, size)
    if head[:16] == _W64_RIFF:
        return _w64(file, size)
    if head[:4] == b"caff":
        return _caf(file, size)
    if head[4:8] == b"ftyp":
        return _mp4(file, size)
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return Ending(_matroska(file, head, size))
    if head[:4] == b"OggS":
        return Ending(in_a_page=_ends_in_a_page(file, size))
    if head[:16] == _ASF_HEADER:
        return Ending(_asf(file, size))
    return _NO_SOUND if head[:4] == b"fLaC" and size < 42 else Ending()


def _read_at(file: Bytes, position: int, size: int) -> bytes:
    """Bytes at a position, which a damaged size may put anywhere."""
    return file.read(size) if file.seek(position) == position else b""


def _missing(start: int, length: int, size: int) -> float | None:
    """The share of `length` bytes from `start` that a file of `size` bytes lacks; None if the length is unknown."""
    there = max(size - start, 0)
    if not 0 < length < PLACEHOLDER or (there > _HEADERS_BYTES and length > FAR * there):
        return None
    return max(length - there, 0) / length


def _wav(file: Bytes, size: int) -> Ending:
    position, large_size = 12, 0
    patches: dict[int, bytes] = {}
    for _ in range(_MAX_BOXES):
        chunk = _read_at(file, position, 24)
        if len(chunk) < 8:
            break
        length = int.from_bytes(chunk[4:8], "little")
        if chunk[:4] == b"ds64":
            large_size = int.from_bytes(chunk[16:24], "little")
        if chunk[:4] == b"data":
            if large_size and length == 0xFFFFFFFF:
                length = large_size
            return Ending(_missing(position + 8, length, size), patches=patches)
        if chunk[:4] == b"fmt ":
            patches = _container_bits(_read_at(file, position + 8, 40), position + 8)
        position += 8 + length + length % 2
    return _NO_SOUND


def _container_bits(form: bytes, position: int) -> dict[int, bytes]:
    """A patch for integers with fewer valid bits than they take, such as 24 in 32, which FFmpeg takes for floats."""
    is_integer = form[:2] == b"\xfe\xff" and form[24:26] == b"\x01\x00"
    bits, valid = form[14:16], form[18:20]
    return {position + 18: bits} if is_integer and valid != bits else {}


def _aiff(file: Bytes, size: int) -> Ending:
    position = 12
    for _ in range(_MAX_BOXES):
        chunk = _read_at(file, position, 8)
        if len(chunk) < 8:
            break
        length = int.from_bytes(chunk[4:8], "big")
        if chunk[:4] == b"SSND":
            there = size - position - 8
            missing = None if length < 8 < there else _missing(position + 8, length, size)
            whole = {4: (size - 8).to_bytes(4, "big"), position + 4: there.to_bytes(4, "big")}
            return Ending(missing, patches=whole if missing is None and there > 0 else {})
        position += 8 + length + length % 2
    return _NO_SOUND


def _au(head: bytes, size: int) -> Ending:
    start, length = int.from_bytes(head[4:8], "big"), int.from_bytes(head[8:12], "big")
    missing = _missing(start, length, size)
    return Ending(missing, patches={8: b"\xff" * 4} if missing is None and size > start else {})


def _w64(file: Bytes, size: int) -> Ending:
    position = 40
    for _ in range(_MAX_BOXES):
        chunk = _read_at(file, position, 24)
        if len(chunk) < 24:
            break
        length = int.from_bytes(chunk[16:24], "little")
        if chunk[:16] == _W64_DATA:
            missing = _missing(position + 24, length - 24, size)
            there = size - position
            return Ending(missing, patches={position + 16: there.to_bytes(8, "little")} if missing is None else {})
        if length < 24:
            break
        position += length + -length % 8
    return _NO_SOUND


def _caf(file: Bytes, size: int) -> Ending:
    position = 8
    for _ in range(_MAX_BOXES):
        chunk = _read_at(file, position, 12)
        if len(chunk) < 12:
            break
        length = int.from_bytes(chunk[4:12], "big", signed=True)
        if chunk[:4] == b"data":
            missing = _missing(position + 12, length, size)
            return Ending(missing, patches={position + 4: b"\xff" * 8} if missing is None else {})
        if length < 0:
            break
        position += 12 + length
    return _NO_SOUND


def _mp4(file: Bytes, size: int) -> Ending:
    position, movie = 0, False
    for _ in range(_MAX_BOXES):
        if position >= size:
            return Ending(0.0) if movie else _NO_SOUND
        box = _read_at(file, position, 16)
        length = int.from_bytes(box[:4], "big")
        if length == 1:
            length = int.from_bytes(box[8:16], "big")
        if box[4:8] == b"moof":
            # There may be hundreds of fragments; the decoder notices if the last one is cut off.
            return Ending(in_fragments=True)
        if length == 0:
            return Ending() if movie or box[4:8] == b"moov" else _NO_SOUND
        if length < 8:
            return Ending()
        cut = position + length > size
        if cut and not movie:
            # The movie box, without which no sound is found, is cut off or would follow.
            return _NO_SOUND
        movie = movie or box[4:8] == b"moov"
        if cut and box[4:8] == b"mdat":
            return Ending(_missing(position, length, size))
        position += length
    return Ending() if movie else _NO_SOUND


def _matroska(file: Bytes, head: bytes, size: int) -> float | None:
    header_size, length = _ebml_size(head, 4)
    segment_at = 4 + length + header_size
    if segment_at + 12 > size:
        return 1.0
    segment = _read_at(file, segment_at, 12)
    if segment[:4] != b"\x18\x53\x80\x67":
        return None
    segment_size, length = _ebml_size(segment, 4)
    if segment_size == (1 << 7 * length) - 1:
        return None
    return _missing(segment_at + 4 + length, segment_size, size)


def _ebml_size(data: bytes, at: int) -> tuple[int, int]:
    """An EBML variable-length number and how many bytes it takes."""
    first = data[at] if at < len(data) else 0
    length = 9 - first.bit_length()
    if length > 8:
        return 0, 1
    return int.from_bytes(data[at : at + length], "big") & (1 << 7 * length) - 1, length


def _ends_in_a_page(file: Bytes, size: int) -> bool:
    """Whether the last page (RFC 3533) is incomplete."""
    start = max(0, size - _OGG_TAIL_BYTES)
    file.seek(start)
    tail = file.read(_OGG_TAIL_BYTES)
    at = tail.rfind(b"OggS")
    page = tail[at:] if at >= 0 else b""
    if len(page) < 27 or len(page) < 27 + page[26]:
        return at >= 0
    return len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])


def _asf(file: Bytes, size: int) -> float | None:
    file.seek(0)
    header = file.read(_ASF_HEADER_BYTES)
    at = header.find(_ASF_FILE_PROPERTIES)
    return _missing(0, int.from_bytes(header[at + 40 : at + 48], "little"), size) if at >= 0 else None
