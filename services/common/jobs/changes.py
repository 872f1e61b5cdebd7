"""Sends changes in the table of jobs to the watchers of this process; one query serves all of them."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import structlog

from services.common.jobs.records import JobRecord
from services.common.jobs.store import JobStore
from services.common.jobs.threads import JobStoreThreads

POLL_SECONDS = 0.1
PLACES_SHOWN = 20
"""Watchers of queued jobs up to this place see each step forward at once, those of others at the next look."""

log = structlog.get_logger(__name__)


@dataclass(eq=False)
class Subscription:
    """Changes that wait to be taken by one watcher; only the newest of each job.

    Attributes:
        wants: selects jobs by their record.
        limit: how many changed jobs may wait; beyond that the oldest are dropped.
    """

    wants: Callable[[JobRecord], bool]
    limit: int
    _waiting: dict[str, JobRecord] = field(default_factory=dict)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, seconds: float | None = None) -> list[JobRecord]:
        """Waits for changes, at most `seconds`, and returns them; an empty list if there are none."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._arrived.wait()
        self._arrived.clear()
        records = list(self._waiting.values())
        self._waiting.clear()
        return records

    def put(self, record: JobRecord) -> None:
        """Adds a change, if it is wanted."""
        if not self.wants(record):
            return
        self._waiting.pop(record.id, None)
        self._waiting[record.id] = record
        if len(self._waiting) > self.limit:
            del self._waiting[next(iter(self._waiting))]
        self._arrived.set()


class ChangeFeed:
    """Looks for changes ten times a second while there are watchers.

    A look reads ids and versions. Whole jobs, with payload and result, are read once for each change.

    Args:
        store: of the jobs.
        threads: run the blocking calls of `store`.
    """

    def __init__(self, store: JobStore, threads: JobStoreThreads) -> None:
        self._store = store
        self._threads = threads
        self._subscriptions: set[Subscription] = set()
        self._wake = asyncio.Event()
        self._forget()

    def _forget(self) -> None:
        self._moment: float | None = None
        self._versions: dict[str, int] = {}
        self._queued: dict[str, JobRecord] = {}
        self._running: set[str] = set()

    def wake(self) -> None:
        """Makes the feed look at once, because something has changed."""
        self._wake.set()

    @contextlib.contextmanager
    def subscribed(self, wants: Callable[[JobRecord], bool], limit: int) -> Iterator[Subscription]:
        """Receives changes within the block; the arguments are as for `Subscription`."""
        subscription = Subscription(wants, limit)
        self._subscriptions.add(subscription)
        self.wake()
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    async def run(self) -> None:
        """Runs until it is cancelled."""
        while True:
            if not self._subscriptions:
                self._forget()
                self._wake.clear()
                await self._wake.wait()
            try:
                records = await self._look()
            except Exception as error:
                log.warning("cannot look for changes; trying again", error=type(error).__name__)
                await asyncio.sleep(1.0)
                continue
            for subscription in list(self._subscriptions):
                for record in records:
                    subscription.put(record)
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                # Not wait_for: Python 3.11's swallows a cancellation that arrives together with the event.
                async with asyncio.timeout(POLL_SECONDS):
                    await self._wake.wait()

    async def _look(self) -> list[JobRecord]:
        """Jobs that have changed since the last look, and queued jobs that have moved up since."""
        moment, versions = await self._threads.call(self._store.versions_since, self._moment)
        changed = [job_id for job_id, version in versions.items() if self._versions.get(job_id) != version]
        fresh = await self._threads.call(self._store.records, changed) if changed else []
        queued = self._queued | {record.id: record for record in fresh}
        queued = {job_id: record for job_id, record in queued.items() if record.state == "queued"}
        moved: list[JobRecord] = []
        if queued and self._changes_places(fresh):
            arrived = [record.id for record in fresh if record.state == "queued" and record.not_before is None]
            places = await self._threads.call(self._store.queue_positions, PLACES_SHOWN, arrived)
            fresh = [replace(record, queue_position=places.get(record.id, 0)) for record in fresh]
            moved = _moved(queued.values(), places, {record.id for record in fresh})
            queued |= {record.id: record for record in (*fresh, *moved) if record.id in queued}
        self._moment, self._queued = moment, queued
        # A job may have changed once more before it was read.
        self._versions = versions | {record.id: record.version for record in fresh}
        self._running -= {record.id for record in fresh}
        self._running |= {record.id for record in fresh if record.state == "running"}
        return [*fresh, *moved]

    def _changes_places(self, fresh: Iterable[JobRecord]) -> bool:
        """Whether a change may move other jobs in the queue; progress and ends of running jobs do not."""
        return any(record.state == "queued" or record.id not in self._running for record in fresh)


def _moved(queued: Iterable[JobRecord], places: dict[str, int], fresh: set[str]) -> list[JobRecord]:
    """Queued jobs near the front whose place has changed, except those in `fresh`."""
    return [
        replace(record, queue_position=places[record.id])
        for record in queued
        if record.id not in fresh and PLACES_SHOWN >= places.get(record.id, PLACES_SHOWN + 1) != record.queue_position
    ]
