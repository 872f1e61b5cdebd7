"""Checks that a file ends where its container says. FFmpeg plays a truncated file without an error."""

import os
from typing import BinaryIO

_OGG_TAIL_BYTES = 128 * 1024
_UNKNOWN_RIFF_SIZES = (0, 0xFFFFFFFF)
_MAX_BOXES = 64
"""Most boxes before the sound; no writer makes more. FFmpeg takes 0.3 s per megabyte of empty ones in a WAV file."""
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_HEADER_BYTES = 64 * 1024


def is_cut_off(file: BinaryIO) -> bool | None:
    """Compares the sizes that RIFF (WAV, AVI), MP4, Matroska, Ogg and ASF (WMA) files declare with what is there.

    A WAV or MP4 file that begins with too many other boxes counts as cut off before its sound.

    Returns:
        None for other files, and for streams that were written without a known end.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(64)
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] in (b"WAVE", b"AVI "):
        return _riff(file, head, size)
    if head[4:8] == b"ftyp":
        return _mp4(file, size)
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return _matroska(file, head, size)
    if head[:4] == b"OggS":
        return _ogg(file, size)
    if head[:16] == _ASF_HEADER:
        return _asf(file, size)
    if head[:4] == b"fLaC" and size < 42:
        return True
    return None


def _ends_early(declared_end: int, size: int) -> bool:
    """Whether more than a few bytes are missing; a few come from sloppy writers."""
    return declared_end - size > min(4096, declared_end // 200)


def _riff(file: BinaryIO, head: bytes, size: int) -> bool | None:
    if head[8:12] == b"AVI ":
        riff_size = int.from_bytes(head[4:8], "little")
        return None if riff_size in _UNKNOWN_RIFF_SIZES else _ends_early(8 + riff_size, size)
    position, large_size = 12, 0
    for _ in range(_MAX_BOXES):
        file.seek(position)
        chunk = file.read(24)
        if len(chunk) < 8:
            return True
        chunk_size = int.from_bytes(chunk[4:8], "little")
        if chunk[:4] == b"ds64":
            large_size = int.from_bytes(chunk[16:24], "little")
        if chunk[:4] == b"data":
            if large_size and chunk_size == 0xFFFFFFFF:
                chunk_size = large_size
            return None if chunk_size in _UNKNOWN_RIFF_SIZES else _ends_early(position + 8 + chunk_size, size)
        position += 8 + chunk_size + chunk_size % 2
    return True


def _mp4(file: BinaryIO, size: int) -> bool | None:
    position, movie = 0, False
    for _ in range(_MAX_BOXES):
        if position >= size:
            return not movie
        file.seek(position)
        box = file.read(16)
        box_size = int.from_bytes(box[:4], "big")
        if box_size == 1:
            box_size = int.from_bytes(box[8:16], "big")
        if box[4:8] == b"moof":
            # There may be hundreds of fragments; the decoder notices if the last one is cut off.
            return None
        if box_size == 0:
            return not movie and box[4:8] != b"moov"
        if box_size < 8:
            return None
        movie = movie or box[4:8] == b"moov"
        position += box_size
        if _ends_early(position, size):
            return True
    return None if movie else True


def _matroska(file: BinaryIO, head: bytes, size: int) -> bool | None:
    header_size, length = _ebml_size(head, 4)
    segment_at = 4 + length + header_size
    if segment_at > size:
        return None
    file.seek(segment_at)
    segment = file.read(12)
    if segment[:4] != b"\x18\x53\x80\x67":
        return None
    segment_size, length = _ebml_size(segment, 4)
    if segment_size == (1 << 7 * length) - 1:
        return None
    return _ends_early(segment_at + 4 + length + segment_size, size)


def _ebml_size(data: bytes, at: int) -> tuple[int, int]:
    """An EBML variable-length number and how many bytes it takes."""
    first = data[at] if at < len(data) else 0
    length = 9 - first.bit_length()
    if length > 8:
        return 0, 1
    return int.from_bytes(data[at : at + length], "big") & (1 << 7 * length) - 1, length


def _ogg(file: BinaryIO, size: int) -> bool:
    """The last page must be there in full and carry the end-of-stream flag (RFC 3533)."""
    start = max(0, size - _OGG_TAIL_BYTES)
    file.seek(start)
    tail = file.read(_OGG_TAIL_BYTES)
    page = tail[tail.rfind(b"OggS") :] if b"OggS" in tail else b""
    if len(page) < 27 or len(page) < 27 + page[26]:
        return True
    body = sum(page[27 : 27 + page[26]])
    return len(page) < 27 + page[26] + body or not page[5] & 4


def _asf(file: BinaryIO, size: int) -> bool | None:
    file.seek(0)
    header = file.read(_ASF_HEADER_BYTES)
    at = header.find(_ASF_FILE_PROPERTIES)
    declared = int.from_bytes(header[at + 40 : at + 48], "little") if at >= 0 else 0
    return _ends_early(declared, size) if declared else None
