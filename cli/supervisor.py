"""Runs the whole suite on one machine: five processes, restarted when they crash, ended in order."""

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

Show = Callable[[str, str], None]

READY_SECONDS = 90.0
STOP_SECONDS = 8.0
FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS = 0.5, 30.0
STEADY_SECONDS = 60.0
PR_SET_PDEATHSIG = 1


class CannotStartError(Exception):
    """The suite cannot be started; the message says why in one line."""


@dataclass
class Part:
    """One process of the suite.

    Args:
        name: for people.
        command: how it is started.
        port: what must be free before, where /readyz answers.
        ports: further ones that must be free.
        stop_order: parts with lower numbers are ended first.
    """

    name: str
    command: Sequence[str]
    port: int
    ports: tuple[int, ...] = ()
    stop_order: int = 0
    process: asyncio.subprocess.Process | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Ports:
    """Where the suite listens."""

    gateway: int = 8080
    grpc: tuple[int, int, int, int] = (50051, 50052, 50053, 50054)
    health: tuple[int, int, int, int] = (9091, 9092, 9093, 9094)

    @classmethod
    def free(cls) -> "Ports":
        """Ports that nobody uses at present."""
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket()) for _ in range(9)]
            for opened in sockets:
                opened.bind(("127.0.0.1", 0))
            numbers = [opened.getsockname()[1] for opened in sockets]
        a, b, c, d, e, f, g, h = numbers[1:]
        return cls(numbers[0], (a, b, c, d), (e, f, g, h))


SERVICES = ("auth", "download", "separation", "analysis")
STOP_ORDER = {"gateway": 0, "download": 1, "separation": 2, "analysis": 2, "auth": 3}


def suite_parts(ports: Ports) -> list[Part]:
    """The five processes, in the order in which they are started."""
    parts = [
        Part(
            name,
            (sys.executable, "-m", f"services.{name}"),
            ports.health[index],
            (ports.grpc[index],),
            STOP_ORDER[name],
        )
        for index, name in enumerate(SERVICES)
    ]
    return [*parts, Part("gateway", (sys.executable, "-m", "gateway"), ports.gateway, (), STOP_ORDER["gateway"])]


def suite_environment(ports: Ports, data_dir: Path) -> dict[str, str]:
    """The environment of the suite's processes: where they listen and find each other. What is set already stays."""
    settings = {"STEMTUBE_DATA_DIR": str(data_dir)}
    settings["STEMTUBE_GATEWAY__LISTEN"] = f"127.0.0.1:{ports.gateway}"
    for index, name in enumerate(SERVICES):
        settings[f"STEMTUBE_{name.upper()}__LISTEN"] = f"127.0.0.1:{ports.grpc[index]}"
        settings[f"STEMTUBE_ADDRESS__{name.upper()}"] = f"127.0.0.1:{ports.grpc[index]}"
        settings[f"STEMTUBE_{name.upper()}__HEALTH_LISTEN"] = f"127.0.0.1:{ports.health[index]}"
    return settings | dict(os.environ) | {"STEMTUBE_DATA_DIR": str(data_dir), "PYTHONUNBUFFERED": "1"}


class Supervisor:
    """Starts parts, restarts those that crash, ends all.

    Args:
        parts: in the order of starting.
        environment: of the processes.
        lock: file that only one supervisor may hold.
        show: called with a part's name and a line of its log.
    """

    def __init__(self, parts: list[Part], environment: dict[str, str], lock: Path, show: Show) -> None:
        self._parts = parts
        self._environment = environment
        self._lock = FileLock(lock)
        self._show = show
        self._keepers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Starts all parts and waits until they are ready.

        Raises:
            CannotStartError: a port is taken, another suite uses the data, or a part does not get ready.
        """
        for part in self._parts:
            for port in (part.port, *part.ports):
                if _answers(port):
                    raise CannotStartError(f"port {port} for {part.name} is taken: is another suite running?")
        self._lock_data()
        self._keepers = [asyncio.create_task(self._keep(part)) for part in self._parts]
        deadline = time.monotonic() + READY_SECONDS
        for part in self._parts:
            while not await _is_ready(part.port):
                if time.monotonic() > deadline:
                    await self.stop()
                    raise CannotStartError(f"{part.name} did not get ready within {READY_SECONDS:.0f} s; see its log")
                await asyncio.sleep(0.1)

    def _lock_data(self) -> None:
        path = Path(self._lock.lock_file)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise CannotStartError(f"{path.parent} is in use by another suite") from None

    async def stop(self) -> None:
        """Ends all parts in order, by force what has not ended after `STOP_SECONDS` in all."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        deadline = time.monotonic() + STOP_SECONDS
        for order in sorted({part.stop_order for part in self._parts}):
            group = [part.process for part in self._parts if part.stop_order == order and part.process]
            running = [process for process in group if process.returncode is None]
            for process in running:
                process.send_signal(signal.SIGTERM)
            if running:
                waits = [asyncio.create_task(process.wait()) for process in running]
                last = order == max(part.stop_order for part in self._parts)
                left = deadline - time.monotonic()
                await asyncio.wait(waits, timeout=max(left if last else left * 0.7, 0.1))
        for part in self._parts:
            if part.process and part.process.returncode is None:
                self._show(part.name, "did not end in time; killed")
                part.process.kill()
                await part.process.wait()
        self._lock.release()

    async def _keep(self, part: Part) -> None:
        backoff = FIRST_BACKOFF_SECONDS
        while True:
            started = time.monotonic()
            part.process = await asyncio.create_subprocess_exec(
                *part.command,
                env=self._environment,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
                start_new_session=True,
            )
            await self._read_log(part)
            status = await part.process.wait()
            if time.monotonic() - started > STEADY_SECONDS:
                backoff = FIRST_BACKOFF_SECONDS
            self._show(part.name, f"ended with status {status}; starting it again in {backoff:.1f} s")
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, LONGEST_BACKOFF_SECONDS)

    async def _read_log(self, part: Part) -> None:
        assert part.process is not None
        assert part.process.stdout is not None
        while line := await _line(part.process.stdout):
            self._show(part.name, line.decode(errors="replace").rstrip())


async def _line(stream: asyncio.StreamReader) -> bytes:
    try:
        return await stream.readuntil(b"\n")
    except asyncio.IncompleteReadError as end:
        return end.partial
    except asyncio.LimitOverrunError as overlong:
        return await stream.readexactly(overlong.consumed)


def _end_with_parent() -> None:
    """Has the kernel end this child when its supervisor dies, however that happens."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def _is_ready(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    try:
        writer.write(b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(5):
            return b" 200 " in await reader.readline()
    except (OSError, TimeoutError):
        return False
    finally:
        writer.close()
