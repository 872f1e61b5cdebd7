"""Runs several processes together: waits until all are ready, restarts those that crash, ends them in order."""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
from filelock import FileLock, Timeout

Show = Callable[[str, str], None]

READY_POLL_SECONDS = 0.1
READY_ANSWER_SECONDS = 5.0
LAST_WORDS_SECONDS = 1.0
LONGEST_LINE = 64 * 1024


class CannotStartError(Exception):
    """The processes cannot be started; the message says why in one line."""


@dataclass(frozen=True, slots=True)
class Part:
    """One process.

    Args:
        name: for people.
        command: starts the process; its standard input closes when the supervisor ends.
        ready_url: answers 200 when the process is ready.
        addresses: each (host, port) on which it listens.
        environment: all of its environment variables.
        stop_order: parts with lower numbers are ended first, equal ones together.
    """

    name: str
    command: Sequence[str]
    ready_url: str
    addresses: Sequence[tuple[str, int]]
    environment: Mapping[str, str]
    stop_order: int = 0


@dataclass(frozen=True, slots=True)
class Timings:
    """Time limits in seconds.

    Args:
        ready: longest time until all parts are ready.
        stop: longest time until all parts have ended; then they are killed. Each stop order gets an equal share of it
            before the next one is asked to end, and may use the rest as well.
        first_backoff: wait before a crashed part is started again; it doubles with each crash.
        longest_backoff: longest such wait.
        steady: a part that has run this long begins again with the first wait.
    """

    ready: float = 180.0
    stop: float = 9.0
    first_backoff: float = 0.5
    longest_backoff: float = 30.0
    steady: float = 60.0


class Supervisor:
    """Keeps parts running. An asynchronous context: entered when all are ready, left when all have ended.

    Args:
        parts: in the order of starting.
        lock: file that only one supervisor at a time can lock.
        show: called with a part's name and a line of its output, or about it.
        cwd: working directory of the parts.
        timings: time limits.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        lock: Path,
        show: Show,
        *,
        cwd: Path | None = None,
        timings: Timings = Timings(),
    ) -> None:
        self._lock = FileLock(lock)
        self._timings = timings
        self._stopping = asyncio.Event()
        self._ended_early: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._children = [_Child(part, show, cwd) for part in parts]
        self._keepers: dict[str, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        """Starts all parts and waits until they are ready.

        Raises:
            CannotStartError: the lock is held, a port is taken, or a part ends or does not get ready.
        """
        self._take_lock()
        try:
            for child in self._children:
                _expect_free(child.part)
            for child in self._children:
                self._keepers[child.part.name] = asyncio.create_task(self._keep(child))
            await self._await_ready()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Ends all parts in order, and kills those that take too long; when cancelled, kills all at once."""
        self._stopping.set()
        try:
            await self._end_in_order()
        finally:
            for child in self._children:
                child.kill()
            if self._keepers:
                await asyncio.wait(self._keepers.values())
            self._lock.release()

    def _take_lock(self) -> None:
        path = Path(self._lock.lock_file)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout:
            raise CannotStartError(f"{path.parent} is in use: StemTube runs with this data directory already") from None
        except OSError as error:
            raise CannotStartError(f"{path.parent} cannot be used: {error.strerror}") from None

    async def _await_ready(self) -> None:
        ready = asyncio.create_task(self._all_ready())
        try:
            either: tuple[asyncio.Future[Any], ...] = (ready, self._ended_early)
            await asyncio.wait(either, timeout=self._timings.ready, return_when=asyncio.FIRST_COMPLETED)
            if self._ended_early.done():
                raise CannotStartError(self._ended_early.result())
            if not ready.done():
                late = ", ".join(child.not_ready() for child in self._children if not child.was_ready)
                raise CannotStartError(f"not ready after {self._timings.ready:.0f} s: {late}")
            ready.result()
        finally:
            ready.cancel()

    async def _all_ready(self) -> None:
        timeout = aiohttp.ClientTimeout(total=READY_ANSWER_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            await asyncio.gather(*(child.await_ready(session) for child in self._children))

    async def _keep(self, child: "_Child") -> None:
        backoff = self._timings.first_backoff
        while not self._stopping.is_set():
            began = time.monotonic()
            how = await child.run(self._stopping)
            if self._stopping.is_set():
                return
            if not all(other.was_ready for other in self._children):
                # The part has never worked; another start would only repeat the same message.
                if not self._ended_early.done():
                    self._ended_early.set_result(f"{child.part.name} {how} while starting: {child.last_line}")
                return
            if time.monotonic() - began >= self._timings.steady:
                backoff = self._timings.first_backoff
            child.show(f"{how}; starting it again in {backoff:.1f} s")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(backoff):
                    await self._stopping.wait()
            backoff = min(2 * backoff, self._timings.longest_backoff)

    async def _end_in_order(self) -> None:
        began = time.monotonic()
        orders = sorted({child.part.stop_order for child in self._children})
        for number, order in enumerate(orders, start=1):
            group = [child for child in self._children if child.part.stop_order == order]
            for child in group:
                child.terminate()
            is_last = number == len(orders)
            awaited = self._children if is_last else group
            tasks = [self._keepers[child.part.name] for child in awaited if child.part.name in self._keepers]
            left = began + self._timings.stop * number / len(orders) - time.monotonic()
            if tasks:
                await asyncio.wait(tasks, timeout=max(left, 0.0))


@dataclass(slots=True)
class _Child:
    """A part and its process, if that is running."""

    part: Part
    show_line: Show
    cwd: Path | None
    was_ready: bool = False
    why_not: str = ""
    _process: asyncio.subprocess.Process | None = None
    _lines: deque[str] = field(default_factory=lambda: deque(maxlen=20))

    @property
    def last_line(self) -> str:
        """The last line of its output."""
        return next((line for line in reversed(self._lines) if line.strip()), "it did not say why")

    def not_ready(self) -> str:
        """Its name and, if it reports one, the reason why it is not ready."""
        return f"{self.part.name} ({self.why_not})" if self.why_not else self.part.name

    def show(self, line: str) -> None:
        """Shows a line about the process."""
        self.show_line(self.part.name, line)

    async def run(self, stopping: asyncio.Event) -> str:
        """Starts the process and waits for its end; returns in words how it ended."""
        with contextlib.ExitStack() as pipes:
            theirs, leash = os.pipe()
            pipes.callback(os.close, leash)
            output, printing = os.pipe()
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *self.part.command,
                    cwd=self.cwd,
                    env=self.part.environment,
                    stdin=theirs,
                    stdout=printing,
                    stderr=printing,
                    # Ctrl-C in the terminal must not reach it, because parts end in order.
                    start_new_session=True,
                )
            except OSError as error:
                os.close(output)
                return f"cannot be started ({error.strerror})"
            finally:
                os.close(theirs)
                os.close(printing)
            if stopping.is_set():
                self.terminate()
            # Not asyncio's own pipes: with them, the end is noticed only after its children have ended too.
            reading = asyncio.create_task(self._read(output))
            status = await self._process.wait()
            self.kill()  # its children
            await asyncio.wait({reading}, timeout=LAST_WORDS_SECONDS)
            reading.cancel()
            await asyncio.wait({reading})
            self._process = None
        return f"ended with status {status}" if status >= 0 else f"was ended by {signal.Signals(-status).name}"

    def terminate(self) -> None:
        """Asks the process to end."""
        if self._process and self._process.returncode is None:
            self._process.terminate()

    def kill(self) -> None:
        """Kills the process and its children."""
        if self._process:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def await_ready(self, session: aiohttp.ClientSession) -> None:
        """Waits until the process is ready."""
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with session.get(self.part.ready_url) as answer:
                    if answer.status == 200:
                        self.was_ready = True
                        return
                    self.why_not = (await answer.text()).strip().partition(": ")[2]
            await asyncio.sleep(READY_POLL_SECONDS)

    async def _read(self, output: int) -> None:
        stream = asyncio.StreamReader(limit=LONGEST_LINE)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(output, "rb")
        )
        try:
            while line := await _line(stream):
                text = line.decode(errors="replace").rstrip()
                self._lines.append(text)
                self.show(text)
        finally:
            transport.close()


async def _line(stream: asyncio.StreamReader) -> bytes:
    """The next line, in pieces if it is too long; empty at the end."""
    try:
        return await stream.readuntil(b"\n")
    except asyncio.IncompleteReadError as end:
        return end.partial
    except asyncio.LimitOverrunError as overlong:
        return await stream.readexactly(overlong.consumed)


def _expect_free(part: Part) -> None:
    """Raises CannotStartError if another process listens on an address of `part`."""
    for host, port in part.addresses:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was just closed counts as free
            try:
                probe.bind((host, port))
            except OSError as error:
                raise CannotStartError(
                    f"{part.name} cannot listen on {host}:{port} ({error.strerror}): stop what does, or choose other "
                    "ports with --port-base"
                ) from None
