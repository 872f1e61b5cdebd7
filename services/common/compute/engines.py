"""A worker's engines, one for each device. Only engines whose device has passed its check get tasks.

A device that fails is set aside, and its task goes back to the queue. The device is tried again after increasing times,
so that a restored driver is used without a restart. A worker without a usable device takes no jobs and reports why.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from services.common.compute.devices import AUTO, CPU, gpu_files, one_line
from services.common.compute.engine import Engine, Keep, OnReport, WorkerDiedError
from services.common.errors import DeviceError, DeviceNotReadyError, NoMemoryError, StemTubeError

log = structlog.get_logger(__name__)

REST_SECONDS = (5.0, 30.0, 120.0, 600.0)
"""How long a device rests after it failed at one job, at two different jobs in a row, and so on."""
TRY_SECONDS = (5.0, 10.0, 20.0, 40.0, 60.0)
"""Seconds between two checks of a device that fails them; the last value repeats."""


@dataclass(eq=False)
class Place:
    """An engine and its device.

    Attributes:
        engine: runs the tasks.
        device: the setting; once it is known, the device that `auto` means.
        busy: whether it has a task.
        why_not: why it takes no tasks; empty if it does.
        failed: jobs at which the device has failed since its last success.
    """

    engine: Engine
    device: str
    busy: bool = False
    why_not: str = ""
    failed: set[str] = field(default_factory=set)


class Engines:
    """Distributes tasks among engines.

    Args:
        engines: (setting of the device, engine).
        with_device: returns the settings of an engine for the device that `auto` means.
        prepares: whether each engine runs its preparations after its device has passed the check, see `Engine.prepare`.
        rest_seconds: see `REST_SECONDS`.
        try_seconds: see `TRY_SECONDS`.
    """

    def __init__(
        self,
        engines: Sequence[tuple[str, Engine]],
        with_device: Callable[[str], Any],
        *,
        prepares: bool = False,
        rest_seconds: Sequence[float] = REST_SECONDS,
        try_seconds: Sequence[float] = TRY_SECONDS,
    ) -> None:
        self._places = [Place(engine, device) for device, engine in engines]
        self._with_device = with_device
        self._prepares = prepares
        self._rest_seconds = rest_seconds
        self._try_seconds = try_seconds
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._tell_room: Callable[[int], None] = lambda _count: None
        for place in self._places:
            if place.device != CPU:
                place.why_not = f"the device {place.device} has not been tried yet"

    def __len__(self) -> int:
        return len(self._places)

    def start(self, tell_room: Callable[[int], None]) -> None:
        """Begins to check the devices.

        Args:
            tell_room: called with the number of tasks that can run at the same time, now and whenever it changes.
        """
        self._tell_room = tell_room
        self._note_change()
        for place in self._places:
            self._spawn(self._try_until_usable(place, 0.0) if place.why_not else self._prepare(place))

    def why_not(self) -> str:
        """Why no task can run; empty if one can."""
        if any(not place.why_not for place in self._places):
            return ""
        return "no jobs are taken: " + "; ".join(dict.fromkeys(place.why_not for place in self._places))

    async def run(
        self, job_id: str, task: dict[str, Any], on_report: OnReport, keep: Keep | None = None
    ) -> dict[str, Any]:
        """Runs a task on the first free engine, if possible on one whose device has not failed at this job.

        Raises:
            DeviceNotReadyError: no device can be used; nothing was begun.
            StemTubeError: as `Engine.run`.
        """
        place = await self._take(job_id)
        try:
            result = await place.engine.run(task, on_report, keep)
        except DeviceError as error:
            self._set_aside(place, job_id, error)
            raise
        except WorkerDiedError as error:
            if place.device == CPU:
                raise
            # The driver may have aborted the process.
            fault = DeviceError(error.message, error.reason)
            self._set_aside(place, job_id, fault)
            raise fault from error
        else:
            place.failed.clear()
            return result
        finally:
            place.busy = False
            self._changed.set()

    async def close(self) -> None:
        """Ends the child processes."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(place.engine.close() for place in self._places))

    async def _take(self, job_id: str) -> Place:
        # A stopped job frees its slot in the queue before its engine has stopped; the next job waits for that here.
        while True:
            usable = [place for place in self._places if not place.why_not]
            if not usable:
                raise DeviceNotReadyError(self.why_not())
            if free := [place for place in usable if not place.busy]:
                place = min(free, key=lambda place: job_id in place.failed)
                place.busy = True
                return place
            self._changed.clear()
            await self._changed.wait()

    def _set_aside(self, place: Place, job_id: str, error: DeviceError) -> None:
        if isinstance(error, DeviceNotReadyError):
            seconds = self._try_seconds[0]
        else:
            place.failed.add(job_id)
            seconds = self._rest_seconds[min(len(place.failed), len(self._rest_seconds)) - 1]
        # The error's own message is for the job's user.
        what = f"the memory of the device {place.device} did not suffice" if isinstance(error, NoMemoryError) else ""
        place.why_not = what or error.message.rstrip(".")
        log.error("device set aside", device=place.device, reason=error.reason, why=place.why_not, seconds=seconds)
        self._note_change()
        self._spawn(self._try_until_usable(place, seconds))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _try_until_usable(self, place: Place, seconds: float) -> None:
        tries = 0
        while True:
            await asyncio.sleep(seconds)
            try:
                device = await place.engine.prove()
            except (StemTubeError, OSError) as error:  # OSError: no process could be started
                seconds = self._try_seconds[min(tries, len(self._try_seconds) - 1)]
                tries += 1
                place.why_not = one_line(error).rstrip(".")
                log.error("device cannot be used", device=place.device, why=place.why_not, seconds=seconds)
                self._note_change()
            else:
                await self._use(place, device)
                return await self._prepare(place)

    async def _use(self, place: Place, device: str) -> None:
        if place.device.startswith(AUTO):
            # From now on `auto` means this device: if a GPU fails later, wait for it and do not use the slow CPU.
            if device == CPU and gpu_files():
                log.warning("torch cannot use the GPU of this machine; computing on the CPU")
            await place.engine.change_settings(self._with_device(device))
            place.device = device
            if device == CPU and any(other.device == CPU for other in self._places if other is not place):
                self._places.remove(place)
        place.why_not = ""
        log.info("device proved", device=place.device)
        self._note_change()

    async def _prepare(self, place: Place) -> None:
        if self._prepares:
            await place.engine.prepare()

    def _note_change(self) -> None:
        self._changed.set()
        self._tell_room(sum(not place.why_not for place in self._places))
