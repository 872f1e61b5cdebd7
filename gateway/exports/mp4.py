"""Adds a box to MP4 files (ISO/IEC 14496-12)."""

import os
import struct
from typing import BinaryIO


def add_user_data(file: BinaryIO, kind: bytes, content: bytes) -> None:
    """Adds a box to `moov/udta` of a file whose `moov` comes last, as in files of FFmpeg.

    Nothing else moves, so the positions of the sound in `moov` stay correct.

    Args:
        file: seekable, to read and to write.
        kind: four letters.
        content: of the box.

    Raises:
        ValueError: the file has no `moov` at its end.
    """
    position, size = _last_box(file)
    file.seek(position)
    movie = file.read(size)
    if movie[4:8] != b"moov":
        raise ValueError("the last box of the file is not moov")
    inside = movie[8:]
    start, end = _find(inside, b"udta")
    user_data = inside[start + 8 : end] + _box(kind, content)
    file.seek(position)
    file.write(_box(b"moov", inside[:start] + _box(b"udta", user_data) + inside[end:]))


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _last_box(file: BinaryIO) -> tuple[int, int]:
    """The offset and the size of the last box, in bytes."""
    end = file.seek(0, os.SEEK_END)
    position = size = 0
    while position + size < end:
        position += size
        file.seek(position)
        header = file.read(16)
        (size,) = struct.unpack(">I", header[:4])
        if size == 1:
            (size,) = struct.unpack(">Q", header[8:])
        if size < 8:
            raise ValueError("not a file of boxes with sizes")
    return position, size


def _find(boxes: bytes, kind: bytes) -> tuple[int, int]:
    """The start and end of a box among its siblings; both are the siblings' end if the box is missing."""
    start = 0
    while start < len(boxes):
        size, found = struct.unpack(">I4s", boxes[start : start + 8])
        if found == kind:
            return start, start + size
        start += size
    return start, start
