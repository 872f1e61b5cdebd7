"""The process that decodes an untrusted file. It has one socket to its parent, and nothing else.

Through it, the process asks for the file's bytes and sends the decoded sound, in frames: a letter, a length, the
content. The parent trusts none of it (see `sandbox`).
"""

import contextlib
import dataclasses
import io
import json
import os
import pickle
import struct
from collections.abc import Callable
from typing import Any

import av.subtitles.codeccontext
import av.subtitles.stream  # noqa: F401  # PyAV would import it only for a file that needs it, which is too late
import numpy as np

from services.common.audio.reader import Reader
from services.common.audio.types import Limits
from services.common.compute.confinement import confine, end_with_parent
from services.common.errors import StemTubeError

READY, READ, HEADER, HEARD, BLOCK, DONE, REFUSED, FAILED = b"y", b"r", b"h", b"l", b"b", b"d", b"e", b"f"
FRAME = struct.Struct("<cI")
WANTED = struct.Struct("<QI")
WISH = struct.Struct("<II")
BLOCK_HEAD = struct.Struct("<dI")
CHUNK_BYTES = 256 * 1024
MAX_PICTURE_BYTES = 16_000_000
MAX_ERROR = 400


class Wire:
    """This end of the socket, used as a file, because that needs the fewest system calls."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file

    def send(self, kind: bytes, *parts: bytes | memoryview) -> None:
        """Sends a frame."""
        self._write(FRAME.pack(kind, sum(memoryview(part).nbytes for part in parts)))
        for part in parts:
            self._write(part)

    def receive(self, size: int) -> bytes:
        """The next bytes.

        Raises:
            EOFError: the parent has gone.
        """
        received = b""
        while len(received) < size:
            piece = self._file.read(size - len(received))
            if not piece:
                raise EOFError
            received += piece
        return received

    def _write(self, part: bytes | memoryview) -> None:
        left = memoryview(part).cast("B")
        while left:
            left = left[self._file.write(left) :]


class _RemoteFile(io.RawIOBase):
    """The file to decode; the parent has its bytes."""

    def __init__(self, wire: Wire, size: int) -> None:
        self._wire = wire
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError("before the start of the file")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), max(self._size - self._position, 0))
        if not wanted:
            return 0
        self._wire.send(READ, WANTED.pack(self._position, wanted))
        length = int.from_bytes(self._wire.receive(4), "little")
        buffer[:length] = self._wire.receive(length)
        self._position += length
        return length


def read_sound(wire: Wire, size: int, limits: Limits) -> None:
    """Sends facts about a file and, if asked for, its sound.

    Raises:
        StemTubeError: see `Reader`.
    """
    read = 0.0

    def note(done: float) -> None:
        nonlocal read
        read = done

    with Reader(io.BufferedReader(_RemoteFile(wire, size), CHUNK_BYTES), limits, note) as reader:
        _send(wire, HEADER, dataclasses.asdict(reader.info))
        sample_rate_hz, channels = WISH.unpack(wire.receive(WISH.size))
        heard = False
        for block in reader.blocks(sample_rate_hz or None, channels or None):
            if not heard:
                heard = True
                _send(wire, HEARD, {"rate": reader.sample_rate_hz, "channel_names": reader.channel_names})
            samples = np.ascontiguousarray(block, np.float32)
            wire.send(BLOCK, BLOCK_HEAD.pack(read, len(samples)), samples.data if samples.size else b"")
        facts = {"info": dataclasses.asdict(reader.info), "content_hash": reader.content_hash}
        picture = reader.picture
    wire.send(DONE, json.dumps(facts).encode(), b"\n", picture if len(picture) <= MAX_PICTURE_BYTES else b"")


def _send(wire: Wire, kind: bytes, facts: dict[str, Any], **more: Any) -> None:
    wire.send(kind, json.dumps(facts | more).encode())


def main(socket_number: int, parent: int) -> None:
    """Runs one task: receives it, gives up all rights, and then begins."""
    end_with_parent(parent)
    wire = Wire(io.FileIO(socket_number, "r+b"))
    task: Callable[[Wire, int, Limits], None]
    length = int.from_bytes(wire.receive(4), "little")
    task, size, limits, memory_bytes, cpu_seconds = pickle.loads(wire.receive(length))
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 2)  # nor may it write into the log
    os.close(nothing)
    wire.send(READY, confine(memory_bytes, cpu_seconds).encode())
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            task(wire, size, limits)
        except StemTubeError as error:
            facts = {"code": int(error.code), "message": error.message, "reason": error.reason}
            _send(wire, REFUSED, facts, metadata=error.metadata)
        except Exception as error:
            _send(wire, FAILED, {"memory": isinstance(error, MemoryError), "error": repr(error)[:MAX_ERROR]})
    os._exit(0)
