"""Heavy work in a child process: one task at a time, models kept warm, and the parent always awake.

The parent serves RPCs and keeps leases; the child computes. A native crash or an out-of-memory kill costs the one task,
a task that does not stop when asked is ended with its process, and an idle child goes and gives its memory back.
"""

import asyncio
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from typing import Any, Protocol

import structlog

from services.common import telemetry, tracing, work_metrics
from services.common.config import LogSettings
from services.common.errors import Code, StemTubeError, StoppedError
from services.common.threads import in_own_thread

log = structlog.get_logger(__name__)

STOP_SECONDS = 1.5
POLL_SECONDS = 0.1


Tell = Callable[..., None]
Keep = Callable[[str, Any], None]


class Report(Protocol):
    """How a task tells where it is; from any of its threads."""

    def __call__(self, stage: str, fraction: float, **detail: Any) -> None:
        """Tells how far a task is: a stable stage name, the fraction done in [0, 1], and further JSON for watchers.

        Cheap: what comes fast is put together.

        Raises:
            StoppedError: the task shall stop.
        """
        ...

    def note(self, **detail: Any) -> None:
        """Tells watchers further JSON; stage and fraction stay as they are."""
        ...

    def keep(self, name: str, content: Any) -> None:
        """Hands over a part of the result (JSON) that is ready before the task ends."""
        ...

    def measure(self, metric: str, value: float, **labels: str) -> None:
        """Has the parent, whose metrics are looked at, note a value of one of `work_metrics.MEASURED`."""
        ...


class Work(Protocol):
    """Does tasks in the child; made there once, so what it loads stays loaded."""

    def __call__(self, task: dict[str, Any], report: Report) -> dict[str, Any]:
        """Does one task (JSON in, JSON out).

        Raises:
            StemTubeError: it cannot be done.
        """
        ...


Preparations = Callable[[Any, Report], Iterator[None]]


class WorkerDiedError(StemTubeError):
    """The child process ended in the middle of a task: a native crash, or killed for its memory."""

    code = Code.ABORTED
    reason = "WORKER_DIED"


class TaskError(StemTubeError):
    """An error of the task, carried over from the child."""

    def __init__(self, code: int, message: str, reason: str) -> None:
        super().__init__(message, reason)
        self.code = Code(code)


class Engine:
    """A child process for heavy tasks.

    Args:
        name: for logs.
        make_work: importable function that makes the `Work` in the child, given `settings`.
        settings: picklable.
        log_settings: the child logs like its parent.
        idle_seconds: a child without a task for so long ends.
        preparations: importable function that does with the `Work`, and a `Report`, what would hold up a first task, a
            step at each turn; for `prepare`.
    """

    def __init__(
        self,
        name: str,
        make_work: Callable[[Any], Work],
        settings: Any,
        log_settings: LogSettings,
        idle_seconds: float = 600.0,
        preparations: Preparations | None = None,
    ) -> None:
        self._name = name
        self._make_work = make_work
        self._settings = settings
        self._log_settings = log_settings
        self._idle_seconds = idle_seconds
        self._preparations = preparations
        self._busy = asyncio.Lock()
        self._process: BaseProcess | None = None
        self._connection: Connection
        self._stop: Event

    async def run(self, task: dict[str, Any], tell: Tell, keep: Keep | None = None) -> dict[str, Any]:
        """Does a task once the child is free.

        Args:
            task: JSON.
            tell: called with what the task reports, from a thread of this process; raising from it stops the task.
            keep: called likewise with each part of the result that is ready early.

        Raises:
            StemTubeError: as the task raised it.
            StoppedError: out of `tell`.
            WorkerDiedError: the child died.
        """
        async with self._busy:
            stop = threading.Event()
            exchange = asyncio.ensure_future(in_own_thread(self._exchange, task, tell, keep, stop))
            try:
                return await asyncio.shield(exchange)
            except asyncio.CancelledError:
                stop.set()
                # The job engine cancels more than once; until the child has stopped it is nobody else's.
                while not exchange.done():
                    with contextlib.suppress(asyncio.CancelledError):
                        await asyncio.wait({exchange})
                _ = exchange.cancelled() or exchange.exception()
                raise

    async def prepare(self) -> None:
        """Starts a child that makes itself ready while it has no task; a task waits for one step at most."""
        async with self._busy:
            if self._process is None:
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
            target=_child,
            args=(theirs, self._stop, self._name, self._make_work, self._settings, inherited),
            kwargs={"idle_seconds": self._idle_seconds, "preparations": preparations},
            name=self._name,
            daemon=True,
        )
        self._process.start()
        theirs.close()
        work_metrics.watch_engine(self._name, self._process.pid or 0)
        log.info("engine started", engine=self._name, pid=self._process.pid)

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()
            work_metrics.forget_engine(self._name, self._process.pid or 0)
            self._process = None

    def _exchange(self, task: dict[str, Any], tell: Tell, keep: Keep | None, stop: threading.Event) -> dict[str, Any]:
        try:
            return self._converse(task, tell, keep, stop)
        except StemTubeError:
            raise
        except BaseException:
            self._kill()  # the child goes on with its task, and the next one would get this one's answer
            raise

    def _converse(self, task: dict[str, Any], tell: Tell, keep: Keep | None, stop: threading.Event) -> dict[str, Any]:
        self._send(task)
        stopped: StoppedError | None = None
        deadline = float("inf")
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
            message = self._receive()
            if message is None:
                continue
            kind, content = message
            if kind == "progress":
                try:
                    tell(content.pop("stage"), content.pop("fraction"), **content)
                except StoppedError as error:
                    stopped = stopped or error
            elif kind == "measure":
                work_metrics.note(*content)
            elif kind == "part":
                if keep and not stopped:
                    keep(*content)
            elif stopped:
                raise stopped
            elif kind == "error":
                raise TaskError(**content)
            else:
                result: dict[str, Any] = content
                return result

    def _send(self, task: dict[str, Any]) -> None:
        # The child's log lines tell of the job as this process's do.
        ids = structlog.contextvars.get_contextvars()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if self._process is not None and self._process.is_alive():
                self._stop.clear()
                self._connection.send((task, ids, tracing.traceparent()))
                return
        self._kill()
        self._start()
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


def _child(
    connection: Connection,
    stop: Event,
    name: str,
    make_work: Callable[[Any], Work],
    settings: Any,
    inherited: telemetry.Inherited,
    *,
    idle_seconds: float,
    preparations: Preparations | None,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    telemetry.configure_child(inherited, name)
    report = _ChildReport(connection, stop)
    work: Work | None = None
    if preparations:
        try:
            work = make_work(settings)
            for _ in preparations(work, report):
                if connection.poll():
                    break
        except Exception:
            log.exception("preparations failed")
    while connection.poll(idle_seconds):
        try:
            task, ids, parent = connection.recv()
        except EOFError:
            return
        with structlog.contextvars.bound_contextvars(**ids):
            try:
                with tracing.span("work", parent=parent):
                    if work is None:
                        work = make_work(settings)
                    answer: tuple[str, Any] = ("result", work(task, report))
                report.flush()
            except StemTubeError as error:
                answer = ("error", {"code": int(error.code), "message": error.message, "reason": error.reason})
            except Exception:
                log.exception("task failed")
                answer = ("error", {"code": int(Code.INTERNAL), "message": INTERNAL_MESSAGE, "reason": "INTERNAL"})
        for what, size in work_metrics.gpu_memory().items():
            report.measure("gpu_memory", size, engine=name, what=what)
        connection.send(answer)
    connection.close()  # at once, or the parent would give a task to a process that is about to end


def _end_with_parent() -> None:
    """Ends this process at once when its parent has died: nobody wants the result, and others want the GPU."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


class _ChildReport:
    """`Report` in the child: sends news to the parent, at most ten a second, and whole whatever thread tells them."""

    def __init__(self, connection: Connection, stop: Event) -> None:
        self._connection = connection
        self._stop = stop
        self._lock = threading.RLock()
        self._news: dict[str, Any] = {}
        self._stage, self._fraction = "", 0.0
        self._sent_at = 0.0

    def __call__(self, stage: str, fraction: float, **detail: Any) -> None:
        with self._lock:
            if self._stop.is_set():
                self._news = {}
                raise StoppedError("The task was stopped.")
            self._stage, self._fraction = stage, fraction
            self._news |= {"stage": stage, "fraction": fraction, **detail}
            if time.monotonic() - self._sent_at > POLL_SECONDS:
                self.flush()

    def note(self, **detail: Any) -> None:
        with self._lock:
            self(self._stage, self._fraction, **detail)

    def keep(self, name: str, content: Any) -> None:
        with self._lock:
            self.flush()
            self._send(("part", (name, content)))

    def measure(self, metric: str, value: float, **labels: str) -> None:
        with self._lock:
            self._send(("measure", (metric, value, labels)))

    def flush(self) -> None:
        with self._lock:
            if self._news:
                self._send(("progress", self._news))
                self._news = {}
                self._sent_at = time.monotonic()

    def _send(self, message: tuple[str, Any]) -> None:
        try:
            self._connection.send(message)
        except OSError:
            os._exit(1)  # the parent is gone: nobody wants the result


INTERNAL_MESSAGE = "Something went wrong here; the server's log tells more."
