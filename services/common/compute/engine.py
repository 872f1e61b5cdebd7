"""Heavy work in a child process: one task at a time, loaded models are kept, and the parent stays responsive.

The parent serves RPCs and renews leases; the child computes. A native crash or an out-of-memory kill ends only the one
task. A task that does not stop when asked is killed with its process. An idle child ends, which frees its memory. A
child whose device failed ends too: after a CUDA fault nothing works in its process any more.
"""

import asyncio
import contextlib
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from typing import Any

import structlog

from services.common.compute import metrics
from services.common.compute.engine_child import Preparations, Prove, Report, Work, run_child
from services.common.compute.threads import in_own_thread
from services.common.config import LogSettings
from services.common.errors import Code, DeviceError, DeviceNotReadyError, NoMemoryError, StemTubeError, StoppedError
from services.common.observe import telemetry, tracing

__all__ = ["Engine", "Report", "TaskError", "Work", "WorkerDiedError"]

log = structlog.get_logger(__name__)

STOP_SECONDS = 1.5
POLL_SECONDS = 0.1
PROOF_SECONDS = 180.0
"""Longest time until a child has started and its device has computed something."""
DEVICE_ERRORS = {kind.reason: kind for kind in (DeviceError, DeviceNotReadyError, NoMemoryError)}

OnReport = Callable[..., None]
Keep = Callable[[str, Any], None]


class WorkerDiedError(StemTubeError):
    """The child process ended during a task: it crashed, or was killed because of its memory."""

    code = Code.ABORTED
    reason = "WORKER_DIED"


class TaskError(StemTubeError):
    """An error of the task, passed on from the child."""

    def __init__(self, code: int, message: str, reason: str) -> None:
        super().__init__(message, reason)
        self.code = Code(code)


class Engine:
    """A child process for heavy tasks.

    Args:
        name: for logs.
        make_work: importable function that makes the `Work` in the child from `settings`.
        settings: picklable.
        log_settings: the parent's; the child logs in the same way.
        idle_seconds: a child ends when it has had no task for this long.
        preparations: importable function for `prepare`: it does slow first steps (with the `Work` and a `Report`), and
            yields after each step.
        prove: importable function that computes something on the device of the settings and returns the device's name;
            called in the child before each task. If it is given, errors of the device are recognised.
    """

    def __init__(
        self,
        name: str,
        make_work: Callable[[Any], Work],
        settings: Any,
        log_settings: LogSettings,
        idle_seconds: float = 600.0,
        preparations: Preparations | None = None,
        prove: Prove | None = None,
    ) -> None:
        self._name = name
        self._make_work = make_work
        self._settings = settings
        self._log_settings = log_settings
        self._idle_seconds = idle_seconds
        self._preparations = preparations
        self._prove = prove
        self._busy = asyncio.Lock()
        self._has_worked = False
        self._process: BaseProcess | None = None
        self._connection: Connection
        self._stop: Event

    async def run(self, task: dict[str, Any], on_report: OnReport, keep: Keep | None = None) -> dict[str, Any]:
        """Runs a task when the child is free.

        Args:
            task: JSON.
            on_report: called with the task's reports, in a thread of this process; if it raises, the task is stopped.
            keep: called in the same way with each part of the result that is ready early.

        Raises:
            StemTubeError: raised by the task.
            StoppedError: raised by `on_report`.
            WorkerDiedError: the child died.
            DeviceError: the device failed; the child has ended.
            DeviceNotReadyError: the device failed its check, and the task was not begun.
        """
        return await self._give(task, on_report, keep)

    async def prove(self) -> str:
        """Checks the device in the child, when that is free.

        Returns:
            The device's name.

        Raises:
            DeviceNotReadyError: it cannot compute; the message says why.
            WorkerDiedError: the check killed the child.
        """
        return str((await self._give(None, lambda *_, **__: None))["device"])

    async def change_settings(self, settings: Any) -> None:
        """Ends the child; the next one gets the new settings."""
        async with self._busy:
            await asyncio.to_thread(self._kill)
            self._settings = settings

    async def _give(self, task: dict[str, Any] | None, on_report: OnReport, keep: Keep | None = None) -> dict[str, Any]:
        async with self._busy:
            self._has_worked |= task is not None
            stop = threading.Event()
            exchange = asyncio.ensure_future(in_own_thread(self._exchange, task, on_report, keep, stop))
            try:
                return await asyncio.shield(exchange)
            except asyncio.CancelledError:
                stop.set()
                # The queue cancels more than once; nobody else may use the child until its task has stopped.
                while not exchange.done():
                    with contextlib.suppress(asyncio.CancelledError):
                        await asyncio.wait({exchange})
                _ = exchange.cancelled() or exchange.exception()
                raise

    async def prepare(self) -> None:
        """Starts a child that runs its preparations while it has no task; a task waits for one step at most.

        Does nothing if there has been a task already.
        """
        async with self._busy:
            if not self._has_worked:
                await in_own_thread(self._kill)
                await in_own_thread(self._start, self._preparations)

    async def close(self) -> None:
        """Ends the child."""
        await in_own_thread(self._kill)

    def _start(self, preparations: Preparations | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._stop = context.Event()
        inherited = telemetry.for_child(self._log_settings)
        self._process = context.Process(
            target=run_child,
            args=(theirs, self._stop, self._name, self._make_work, self._settings, inherited),
            kwargs={"idle_seconds": self._idle_seconds, "preparations": preparations, "prove": self._prove},
            name=self._name,
            daemon=True,
        )
        self._process.start()
        theirs.close()
        metrics.watch_engine(self._name, self._process.pid or 0)
        log.info("engine started", engine=self._name, pid=self._process.pid)

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()
            metrics.forget_engine(self._name, self._process.pid or 0)
            self._process = None

    def _exchange(
        self, task: dict[str, Any] | None, on_report: OnReport, keep: Keep | None, stop: threading.Event
    ) -> dict[str, Any]:
        try:
            return self._converse(task, on_report, keep, stop)
        except StemTubeError:
            raise
        except BaseException:
            self._kill()  # else the child would continue, and the next task would get this one's answer
            raise

    def _converse(
        self, task: dict[str, Any] | None, on_report: OnReport, keep: Keep | None, stop: threading.Event
    ) -> dict[str, Any]:
        self._send(task)
        stopped: StoppedError | None = None
        deadline = float("inf")
        proof_deadline = time.monotonic() + PROOF_SECONDS if self._prove else float("inf")
        while True:
            if stopped is None and stop.is_set():
                stopped = StoppedError("The task was stopped.")
            if stopped and deadline == float("inf"):
                self._stop.set()
                deadline = time.monotonic() + STOP_SECONDS
            if time.monotonic() > deadline:
                log.warning("engine killed: its task did not stop", engine=self._name)
                self._kill()
                raise stopped or StoppedError("The task was stopped.")
            if time.monotonic() > proof_deadline:
                self._kill()
                raise DeviceNotReadyError(f"The device did not answer for {PROOF_SECONDS:.0f} s.")
            message = self._receive()
            if message is None:
                continue
            kind, content = message
            if kind == "proved":
                proof_deadline = float("inf")
            elif kind == "left":
                if stopped:
                    raise stopped
                proof_deadline = time.monotonic() + PROOF_SECONDS if self._prove else float("inf")
                self._send_to_new_child(task)
            elif kind == "progress":
                try:
                    on_report(content.pop("stage"), content.pop("fraction"), **content)
                except StoppedError as error:
                    stopped = stopped or error
            elif kind == "measure":
                metrics.note(*content)
            elif kind == "part":
                if keep and not stopped:
                    keep(*content)
            elif kind == "device":
                self._kill()
                raise stopped or DEVICE_ERRORS[content["reason"]](content["message"])
            elif stopped:
                raise stopped
            elif kind == "error":
                raise TaskError(**content)
            else:
                result: dict[str, Any] = content
                return result

    def _send(self, task: dict[str, Any] | None) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if self._process is not None and self._process.is_alive():
                self._stop.clear()
                self._put(task)
                return
        self._send_to_new_child(task)

    def _send_to_new_child(self, task: dict[str, Any] | None) -> None:
        self._kill()
        self._start()
        self._put(task)

    def _put(self, task: dict[str, Any] | None) -> None:
        # The child's log lines have the job's fields, as this process's do.
        ids = structlog.contextvars.get_contextvars()
        self._connection.send((task, ids, tracing.traceparent()))

    def _receive(self) -> tuple[str, Any] | None:
        try:
            if not self._connection.poll(POLL_SECONDS):
                return None
            message: tuple[str, Any] = self._connection.recv()
        except (EOFError, ConnectionResetError):
            assert self._process is not None
            self._process.join()
            code = self._process.exitcode or 0
            how = f"was killed by signal {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
            self._kill()
            raise WorkerDiedError(f"The process that did the work {how}.") from None
        return message
