"""Decodes untrusted files, each in its own process, which has no rights to do anything else.

FFmpeg's decoders are a million lines of C, and files can hold any bytes. If a file makes a decoder loop, hang, take all
memory or run code from the file, this happens in a process without rights, secrets or other files (see `confinement`),
and the process is ended. Its output is not trusted and is checked here.
"""

import json
import math
import os
import pickle
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import numpy as np

from services.common.audio import sandbox_child
from services.common.audio.container import open_source
from services.common.audio.reader import Reader
from services.common.audio.sandbox_child import BLOCK, DONE, FAILED, FRAME, HEADER, HEARD, READ, READY, REFUSED, Wire
from services.common.audio.types import AudioInfo, Limits, Note, Progress, Source
from services.common.errors import (
    Code,
    InvalidInputError,
    LimitExceededError,
    PreconditionError,
    StemTubeError,
    UnavailableError,
)
from services.common.samples import Samples

_POLL_SECONDS = 0.5
_END_SECONDS = 5.0
_MAX_FRAME_BYTES = 64 * 1024 * 1024
"""Largest frame; a block of 32 channels has 8 MB."""
_SPARE_SECONDS = 10.0
"""Sound accepted beyond the longest duration, which the process itself checks: a block, and a resampler's rest."""
_MAX_TEXT = 500
_MAX_FACTS, _MAX_FACTS_BYTES = 32, 1024 * 1024
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_MAX_COUNT = 2**63
_KEPT_VARIABLES = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")

_Number = TypeVar("_Number", int, float)


class SoundReader(Protocol):
    """One pass over a file's sound, here (`Reader`) or in a sandbox."""

    info: AudioInfo

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @property
    def sample_rate_hz(self) -> int:
        """The sample rate of the first frame; known after the first block."""

    @property
    def channel_names(self) -> tuple[str, ...]:
        """FFmpeg's names of the channels of the first frame; known after the first block."""

    @property
    def content_hash(self) -> str:
        """See `Reader.content_hash`; known at the end."""

    @property
    def picture(self) -> bytes:
        """See `Reader.picture`; known at the end."""

    def blocks(self, sample_rate_hz: int | None = None, channels: int | None = None) -> Iterator[Samples]:
        """The sound, once; see `Reader.blocks`."""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Limits of the process that decodes one file.

    Args:
        memory_mib: largest size of its data.
        cpu_seconds: longest CPU time.
        wall_seconds: longest time until it has ended.
        task: the function to run; importable.
        require_confinement: decode nothing if something cannot be limited; otherwise only log a warning, once.
    """

    memory_mib: int = 512
    cpu_seconds: int = 300
    wall_seconds: float = 900.0
    task: Callable[[Wire, int, Limits], None] = sandbox_child.read_sound
    require_confinement: bool = False

    def reader(self, source: Source, limits: Limits, on_progress: Progress | None = None) -> "SandboxedReader":
        """As `Reader`, with two more reasons of InvalidInputError.

        DECODER_CRASHED: the file made the process crash. DECODER_LIMIT: the file needs more memory or time.

        Raises (on entering, and out of `blocks`):
            UnavailableError: the process was killed from outside (reason DECODER_KILLED).
            PreconditionError: it cannot be confined, although that is required (reason DECODER_UNCONFINED).
        """
        return SandboxedReader(self, source, limits, on_progress)


def open_reader(
    source: Source, limits: Limits, on_progress: Progress | None = None, sandbox: Sandbox | None = None
) -> SoundReader:
    """Reads a file in a sandbox, or in this process if none is given."""
    return Reader(source, limits, on_progress) if sandbox is None else sandbox.reader(source, limits, on_progress)


class SandboxedReader:
    """See `Sandbox.reader`. For one thread only; the process ends when that thread ends."""

    info: AudioInfo
    sample_rate_hz: int
    channel_names: tuple[str, ...]
    content_hash: str
    picture: bytes

    def __init__(self, sandbox: Sandbox, source: Source, limits: Limits, on_progress: Progress | None) -> None:
        self._sandbox = sandbox
        self._source = source
        self._limits = limits
        self._on_progress = on_progress
        self._progress = 0.0
        self._waited = 0.0
        self._buffer = bytearray()
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as resources:
            self._file = resources.enter_context(open_source(self._source, self._limits)).raw
            size = self._file.seek(0, os.SEEK_END)
            self._start(resources)
            box = self._sandbox
            task = pickle.dumps((box.task, size, self._limits, box.memory_mib * 2**20, box.cpu_seconds))
            self._send(struct.pack("<I", len(task)) + task)
            self._look_at_confinement(bytes(self._receive(READY)[1]).decode(errors="replace"))
            self.info = _info(_facts(self._receive(HEADER)[1]))
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    def blocks(self, sample_rate_hz: int | None = None, channels: int | None = None) -> Iterator[Samples]:
        """See `Reader.blocks`."""
        self._send(sandbox_child.WISH.pack(sample_rate_hz or 0, channels or 0))
        heard = _facts(self._receive(HEARD)[1])
        self.sample_rate_hz = _number(heard, "rate", 1, _MAX_COUNT)
        self.channel_names = tuple(_text(name) for name in _list(heard, "channel_names", self._limits.max_channels))
        rows = channels or len(self.channel_names)
        left = (self._limits.max_seconds + _SPARE_SECONDS) * (sample_rate_hz or self.sample_rate_hz)
        while True:
            kind, content = self._receive(BLOCK, DONE)
            if kind == DONE:
                break
            head = sandbox_child.BLOCK_HEAD.size
            fraction, channels_sent = _unpacked(sandbox_child.BLOCK_HEAD, content[:head])
            if channels_sent != rows or (len(content) - head) % (rows * 4):
                raise _untrue()
            block = np.frombuffer(content, np.float32, offset=head)
            if not np.isfinite(block).all():
                raise _untrue()
            left -= block.size // rows
            if left < 0:
                raise _untrue()
            yield block.reshape(rows, -1)
            self._report_progress(fraction)
        header, _, self.picture = bytes(content).partition(b"\n")
        facts = _facts(header)
        self.info = _info(facts.get("info"))
        self.content_hash = _text(facts.get("content_hash"))
        self._report_progress(1.0)

    def _start(self, resources: ExitStack) -> None:
        ours, theirs = socket.socketpair()
        resources.callback(ours.close)
        ours.settimeout(_POLL_SECONDS)
        self._socket = ours
        program = f"from services.common.audio.sandbox_child import main; main({theirs.fileno()}, {os.getpid()})"
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-s", "-c", program],
                # No secret of this process' environment; and no threads, which the filter would not let be.
                env={name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
                | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)), "OPENBLAS_NUM_THREADS": "1"},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        resources.callback(self._end)

    def _look_at_confinement(self, missing: str) -> None:
        if missing and self._sandbox.require_confinement:
            raise PreconditionError(f"Decoders cannot be confined here: {missing[:_MAX_TEXT]}.", "DECODER_UNCONFINED")
        _warn_once(missing)

    def _end(self) -> None:
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _receive(self, *wanted: bytes) -> tuple[bytes, memoryview]:
        """Receives the next frame of a wanted kind, valid until the one after it; answers requests for bytes."""
        while True:
            kind, length = FRAME.unpack(self._exactly(FRAME.size))
            if length > _MAX_FRAME_BYTES:
                raise _untrue()
            content = self._exactly(length)
            if kind == READ:
                self._give(*_unpacked(sandbox_child.WANTED, content))
            elif kind == REFUSED:
                raise _refusal(_facts(content))
            elif kind == FAILED:
                raise _failure(_facts(content))
            elif kind in wanted:
                return kind, content
            else:
                raise _untrue()

    def _give(self, offset: int, size: int) -> None:
        self._file.seek(min(offset, 2**62))
        data = self._file.read(min(size, sandbox_child.CHUNK_BYTES))
        self._send(struct.pack("<I", len(data)) + data)

    def _exactly(self, size: int) -> memoryview:
        if size > len(self._buffer):
            self._buffer = bytearray(size)
        left = data = memoryview(self._buffer)[:size]
        while left:
            received = self._patiently(self._socket.recv_into, left)
            if not received:
                raise self._death()
            left = left[received:]
        return data

    def _send(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[self._patiently(self._socket.send, left) :]

    def _patiently(self, exchange: Callable[[memoryview], int], data: memoryview) -> int:
        """Sends or receives within the time limit; the caller can stop it."""
        while True:
            if self._waited > self._sandbox.wall_seconds:
                raise _over_limit(f"{self._sandbox.wall_seconds:g} s")
            began = time.monotonic()
            try:
                return exchange(data)
            except TimeoutError:
                self._report_progress(self._progress)
            except (BrokenPipeError, ConnectionResetError):
                raise self._death() from None
            finally:
                self._waited += time.monotonic() - began

    def _report_progress(self, fraction: float) -> None:
        self._progress = max(self._progress, min(fraction, 1.0))
        if self._on_progress is not None:
            self._on_progress(self._progress)

    def _death(self) -> StemTubeError:
        """Returns the error for the way in which the process ended."""
        try:
            status = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            return _untrue()  # it closed its socket but still runs
        if status == -signal.SIGXCPU:
            return _over_limit(f"{self._sandbox.cpu_seconds} s of computing")
        if status == -signal.SIGKILL:
            return UnavailableError("The process that decoded the file was killed from outside.", "DECODER_KILLED")
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        return InvalidInputError(f"the file makes its decoder crash: it {how}", "DECODER_CRASHED")


def _over_limit(what: str) -> InvalidInputError:
    return InvalidInputError(f"the file needs more than {what} to be decoded", "DECODER_LIMIT")


def _untrue() -> InvalidInputError:
    """The error of a process that sends what no decoder sends: the file may have taken it over."""
    return InvalidInputError("the file makes its decoder say nonsense", "DECODER_CRASHED")


def _refusal(facts: dict[str, Any]) -> StemTubeError:
    kind = LimitExceededError if facts.get("code") == Code.RESOURCE_EXHAUSTED else InvalidInputError
    metadata = facts.get("metadata")
    if not isinstance(metadata, dict) or len(metadata) > _MAX_FACTS:
        raise _untrue()
    refusal = kind(_text(facts.get("message")), _text(facts.get("reason")))
    refusal.metadata = {_text(name): _text(value) for name, value in metadata.items()}
    return refusal


def _failure(facts: dict[str, Any]) -> StemTubeError:
    if facts.get("memory") is True:
        return InvalidInputError("the file needs more memory than a decoder has", "DECODER_LIMIT")
    import structlog  # takes half a second, and the process in the sandbox imports this module too

    structlog.get_logger(__name__).warning("decoder failed", error=_text(facts.get("error")))
    return InvalidInputError("the file makes its decoder fail", "DECODER_CRASHED")


_warned = set[str]()


def _warn_once(unlimited: str) -> None:
    if unlimited and unlimited not in _warned:
        import structlog

        _warned.add(unlimited)
        structlog.get_logger(__name__).warning("decoders are confined in part", detail=unlimited[:_MAX_TEXT])


def _unpacked(structure: struct.Struct, content: memoryview) -> tuple[Any, ...]:
    if len(content) != structure.size:
        raise _untrue()
    return structure.unpack(content)


def _facts(content: bytes | memoryview) -> dict[str, Any]:
    if len(content) > _MAX_FACTS_BYTES:
        raise _untrue()
    try:
        facts = json.loads(bytes(content))
    except (ValueError, RecursionError):
        raise _untrue() from None
    if not isinstance(facts, dict):
        raise _untrue()
    return facts


def _info(facts: Any) -> AudioInfo:
    if not isinstance(facts, dict) or not isinstance(facts.get("tags"), dict) or len(facts["tags"]) > _MAX_FACTS:
        raise _untrue()
    return AudioInfo(
        duration_seconds=_number(facts, "duration_seconds", 0.0, math.inf),
        samples=_number(facts, "samples", 0, _MAX_COUNT),
        sample_rate_hz=_number(facts, "sample_rate_hz", 0, _MAX_COUNT),
        channels=_number(facts, "channels", 1, _MAX_COUNT),
        codec=_text(facts.get("codec")),
        container=_text(facts.get("container")),
        bit_rate=_number(facts, "bit_rate", 0, _MAX_COUNT),
        tags={_text(name): _text(text) for name, text in facts["tags"].items()},
        notes=tuple(_note(note) for note in _short_list(facts.get("notes"))),
    )


def _note(facts: Any) -> Note:
    if not isinstance(facts, dict):
        raise _untrue()
    return Note(_text(facts.get("reason")), _text(facts.get("message")))


def _short_list(found: Any) -> list[Any]:
    if not isinstance(found, list) or len(found) > _MAX_FACTS:
        raise _untrue()
    return found


def _number(facts: dict[str, Any], name: str, least: _Number, most: _Number) -> _Number:
    number = facts.get(name)
    if type(number) is not type(least) or not least <= number <= most:
        raise _untrue()
    return number


def _list(facts: dict[str, Any], name: str, most: int) -> list[Any]:
    found = facts.get(name)
    if not isinstance(found, list) or not 0 < len(found) <= most:
        raise _untrue()
    return found


def _text(text: Any) -> str:
    if not isinstance(text, str) or len(text) > _MAX_TEXT or _UNPRINTABLE.search(text):
        raise _untrue()
    return text
