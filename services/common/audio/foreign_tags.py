"""Finds tags of other formats around a file, which FFmpeg takes for its sound or cannot skip.

Taggers put ID3v2 before, and ID3v1, its extension "TAG+", or Lyrics3 behind files of any format.
"""

import os
from typing import BinaryIO

_SIGNATURES = (
    *(b"wvpk", b"MAC ", b"fLaC", b"OggS", b"TTA1", b"tBaK", b"MPCK", b"MP+", b"RIFF", b"RF64", b"FORM", b"caff"),
    *(b".snd", b"\x1a\x45\xdf\xa3", b"\x30\x26\xb2\x75", b"DSD ", b"FRM8", b"ajkg"),
)
_STREAMS = (b"wvpk", b"MAC ", b"fLaC", b"OggS", b"TTA1", b"tBaK", b"MPCK", b"MP+", b"ID3", b"\xff")
"""Beginnings of formats that do not state where their sound ends; others ignore bytes behind it."""
_ID3V1_BYTES = 128
_EXTENDED_BYTES = 227
_MOST_TAGS = 8


def bounds(file: BinaryIO) -> tuple[int, int]:
    """The first and the last position (exclusive) of the file without foreign tags."""
    size = file.seek(0, os.SEEK_END)
    start = _after_id3v2(file)
    file.seek(start)
    head = file.read(12)
    if not (head.startswith(_SIGNATURES) or head[4:8] == b"ftyp"):
        start = 0  # MPEG audio and ADTS, before which FFmpeg expects ID3v2, or no audio
        file.seek(0)
        head = file.read(12)
    return start, _before_id3v1(file, size) if head.startswith(_STREAMS) else size


def id3v2_size(header: bytes) -> int:
    """The size of an ID3v2 tag in bytes, header and footer included, from its first ten bytes; 0 if they are no tag."""
    if len(header) < 10 or header[:3] != b"ID3" or 0xFF in header[3:5] or any(byte & 0x80 for byte in header[6:10]):
        return 0
    size = sum(byte << shift for byte, shift in zip(header[6:10], (21, 14, 7, 0), strict=True))
    return 10 + size + (10 if header[5] & 0x10 else 0)


def _after_id3v2(file: BinaryIO) -> int:
    position = 0
    for _ in range(_MOST_TAGS):
        file.seek(position)
        size = id3v2_size(file.read(10))
        if not size:
            break
        position += size
    return position


def _before_id3v1(file: BinaryIO, end: int) -> int:
    for _ in range(_MOST_TAGS):
        shorter = _without_last_tag(file, end)
        if shorter == end:
            break
        end = shorter
    return end


def _without_last_tag(file: BinaryIO, end: int) -> int:
    tail_at = max(end - _EXTENDED_BYTES - _ID3V1_BYTES, 0)
    file.seek(tail_at)
    tail = file.read(end - tail_at)
    if tail[-_ID3V1_BYTES:][:3] == b"TAG" and end > _ID3V1_BYTES:
        extended = tail[:-_ID3V1_BYTES][-_EXTENDED_BYTES:][:4] == b"TAG+"
        return end - _ID3V1_BYTES - (_EXTENDED_BYTES if extended else 0)
    if tail.endswith(b"LYRICS200") and tail[-15:-9].isdigit():
        begin = end - 15 - int(tail[-15:-9])
        file.seek(max(begin, 0))
        if begin > 0 and file.read(11) == b"LYRICSBEGIN":
            return begin
    return end
