"""The child process of `services.common.compute.engine`: it runs tasks and reports to its parent."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from typing import Any, Protocol

import structlog

from services.common.compute import metrics
from services.common.compute.devices import device_error, one_line
from services.common.errors import Code, DeviceNotReadyError, StemTubeError, StoppedError, full_disk
from services.common.observe import telemetry, tracing

log = structlog.get_logger(__name__)

NEWS_SECONDS = 0.1
INTERNAL_MESSAGE = "Something went wrong here; the server's log tells more."


class Report(Protocol):
    """Reports a task's progress, from any of its threads."""

    def __call__(self, stage: str, fraction: float, **detail: Any) -> None:
        """Reports progress: a stable stage name, the fraction done in [0, 1], and further JSON for watchers.

        It is cheap: reports that follow each other fast are merged.

        Raises:
            StoppedError: the task was asked to stop.
        """
        ...

    def note(self, **detail: Any) -> None:
        """Sends further JSON to watchers; stage and fraction stay the same."""
        ...

    def keep(self, name: str, content: Any) -> None:
        """Sends a part of the result (JSON) that is ready before the task ends."""
        ...

    def measure(self, metric: str, value: float, **labels: str) -> None:
        """Records a value of one of `metrics.MEASURED` in the parent, from which Prometheus reads."""
        ...


class Work(Protocol):
    """Runs tasks in the child. It is made once there, so loaded models stay loaded."""

    def __call__(self, task: dict[str, Any], report: Report) -> dict[str, Any]:
        """Runs one task (JSON in, JSON out).

        Raises:
            StemTubeError: the task failed.
        """
        ...


Preparations = Callable[[Any, Report], Iterator[None]]
Prove = Callable[[Any], str]


def run_child(
    connection: Connection,
    stop: Event,
    name: str,
    make_work: Callable[[Any], Work],
    settings: Any,
    inherited: telemetry.Inherited,
    *,
    idle_seconds: float,
    preparations: Preparations | None,
    prove: Prove | None,
) -> None:
    """Runs tasks from the connection until none has come for `idle_seconds`; see `Engine` for the other arguments."""
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
        except Exception as error:
            log.exception("preparations failed")
            if prove and device_error(error):
                _leave(connection)
                return
    while connection.poll(idle_seconds):
        try:
            task, ids, parent = connection.recv()
        except EOFError:
            return
        with structlog.contextvars.bound_contextvars(**ids):
            try:
                with tracing.span("work", parent=parent):
                    device = _proved(prove, settings) if prove else ""
                    report.proved(device)
                    if work is None and task is not None:
                        work = make_work(settings)
                    if work is None or task is None:
                        answer: tuple[str, Any] = ("result", {"device": device})
                    else:
                        answer = ("result", work(task, report))
                report.flush()
            except Exception as error:
                answer = _failure(error, computes=prove is not None)
        if answer[0] == "device":
            connection.send(answer)
            connection.close()
            return
        for what, size in metrics.gpu_memory().items():
            report.measure("gpu_memory", size, engine=name, what=what)
        connection.send(answer)
    _leave(connection)


def _leave(connection: Connection) -> None:
    """Tells the parent that this child ends; a task that was just sent goes to another child."""
    with contextlib.suppress(OSError):
        connection.send(("left", None))
    connection.close()


def _proved(prove: Prove, settings: Any) -> str:
    try:
        return prove(settings)
    except DeviceNotReadyError:
        raise
    except Exception as error:
        raise DeviceNotReadyError(f"The device cannot be used: {one_line(error)}") from error


def _failure(error: Exception, *, computes: bool) -> tuple[str, Any]:
    """Converts an error for the parent. `computes`: the task ran on a device, which may be the cause."""
    if computes and (fault := device_error(error)):
        if not isinstance(error, DeviceNotReadyError):
            log.error("the device failed", reason=fault.reason, exc_info=error)
        return "device", {"message": fault.message, "reason": fault.reason}
    if isinstance(error, StemTubeError):
        return "error", {"code": int(error.code), "message": error.message, "reason": error.reason}
    log.error("task failed", exc_info=error)
    if full := full_disk(error):
        return "error", {"code": int(full.code), "message": full.message, "reason": full.reason}
    return "error", {"code": int(Code.INTERNAL), "message": INTERNAL_MESSAGE, "reason": "INTERNAL"}


def _end_with_parent() -> None:
    """Ends this process when its parent has died: nobody needs the result, and the GPU becomes free."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


class _ChildReport:
    """`Report` in the child: sends at most ten messages a second to the parent. Safe to call from any thread."""

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
            if time.monotonic() - self._sent_at > NEWS_SECONDS:
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

    def proved(self, device: str) -> None:
        """Tells the parent that the device computes."""
        self._send(("proved", device))

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
            os._exit(1)  # the parent is gone: nobody needs the result
