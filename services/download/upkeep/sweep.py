"""Removes objects without a record (drafts of failed uploads, originals and stems without a track), and records without
an object.

A sweep fails if the store is not the library's, or has none of the library's objects. Objects that cannot be made again
stay for some days after they were first found without a record, and then go into the trash of the store.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog

from services.common.errors import PreconditionError
from services.common.storage.database import Database
from services.common.storage.object_info import ObjectInfo
from services.common.storage.objects import ObjectStore
from services.common.unchanged import SETTLED_SECONDS, Unchanged
from services.download.tables import ObjectState
from services.download.tracks.repository import UPLOADS, TrackRepository
from services.download.upkeep.lost_records import LostRecord, LostRecords
from services.download.upkeep.object_states import ObjectStates
from services.download.upkeep.remaking import Remaker
from services.download.upkeep.trash import DERIVED, TRASH, Remover, kept_key, source_key, trash_key
from services.download.upkeep.usage import Usage

log = structlog.get_logger(__name__)

BATCH = 500
KEPT = ("originals", "peaks", "covers", "stems")
# No service can make these again.
LASTING = ("originals/", "peaks/", "covers/", "stems/imported/")
SHOWN = 100
# A sweep decodes at most so many originals and stems; the next one continues.
MOST_REMADE = 100


@dataclass(slots=True)
class Report:
    """The findings of a sweep; see `CleanupReport` in the contract.

    The lists have at most `SHOWN` entries. `objects` were removed, or put into the trash (`trashed_count` of them).
    `waiting_count` further ones have not been without a record for long enough. `records` were deleted, `missing` ones
    are kept for now. `held_back` says why nothing was removed; otherwise it is empty.
    """

    object_count: int = 0
    object_bytes: int = 0
    objects: list[str] = field(default_factory=list)
    record_count: int = 0
    records: list[str] = field(default_factory=list)
    expired_track_count: int = 0
    missing_count: int = 0
    missing: list[str] = field(default_factory=list)
    waiting_count: int = 0
    trashed_count: int = 0
    restored_count: int = 0
    damaged_count: int = 0
    damaged: list[str] = field(default_factory=list)
    held_back: str = ""

    def add_object(self, info: ObjectInfo) -> None:
        """Adds an object without a record."""
        self.object_count += 1
        self.object_bytes += info.size
        self.objects += [info.key][: SHOWN - len(self.objects)]

    def add_record(self, lost: LostRecord) -> None:
        """Adds a record that is deleted."""
        self.record_count += 1
        self.records += [f"{lost.track_id} {lost.key}"][: SHOWN - len(self.records)]

    def add_missing(self, lost: LostRecord, since: datetime) -> None:
        """Adds a record that is kept although its object is missing."""
        self.missing_count += 1
        shown = f"{lost.track_id} {lost.key} since {since.isoformat(timespec='seconds')}"
        self.missing += [shown][: SHOWN - len(self.missing)]

    def add_damaged(self, state: ObjectState) -> None:
        """Adds an object whose bytes have changed."""
        self.damaged_count += 1
        self.damaged += [state.key][: SHOWN - len(self.damaged)]


@dataclass(slots=True)
class _Listing:
    """The contents of the store.

    Args:
        present: keys of the objects of the library.
        kinds: number and bytes of objects, by prefix.
        orphans: objects without a record that are old enough to be removed.
        partials: unfinished writes that are old enough to be removed.
        trash: objects in the trash.
    """

    present: set[str] = field(default_factory=set)
    kinds: dict[str, tuple[int, int]] = field(default_factory=dict)
    orphans: list[ObjectInfo] = field(default_factory=list)
    partials: list[ObjectInfo] = field(default_factory=list)
    trash: list[ObjectInfo] = field(default_factory=list)


class Sweeper:
    """Finds and removes objects without a record and records without an object.

    Args:
        objects: the object store.
        database: the library's database.
        usage: stores the numbers of objects.
        remaker: makes missing peaks and pictures again; None: they stay missing.
        older_than: age below which objects are not removed, because they may belong to running work.
        stems_older_than: age below which stems are not removed, because the separation service may give them to equal
            requests.
        unneeded_for: how long originals, peaks, covers and stems stay after they were first found without a record.
        trashed_for: how long objects that cannot be made again then stay in the trash; 0: no trash.
        missing_for: how long records stay after their object was first found missing.
    """

    def __init__(
        self,
        objects: ObjectStore,
        database: Database,
        usage: Usage,
        remaker: Remaker | None = None,
        *,
        older_than: timedelta,
        stems_older_than: timedelta,
        unneeded_for: timedelta = timedelta(days=7),
        trashed_for: timedelta = timedelta(days=30),
        missing_for: timedelta = timedelta(days=30),
    ) -> None:
        self._objects = objects
        self._tracks = TrackRepository(database)
        self._remover = Remover(objects, self._tracks)
        self._states = ObjectStates(database)
        self._lost = LostRecords(objects, database)
        self._usage = usage
        self._remaker = remaker
        self._ages = {"stems": stems_older_than}
        self._age = older_than
        self._unneeded_for = unneeded_for
        self._trashed_for = trashed_for
        self._missing_for = missing_for
        self._missed: Unchanged[str, datetime] = Unchanged()
        self._due: Unchanged[str, datetime] = Unchanged()

    async def sweep(self, *, dry_run: bool = False) -> Report:
        """Runs a sweep; with `dry_run`, only makes its report.

        Raises:
            UnavailableError: the object store is unavailable, or not the library's.
            PreconditionError: all objects of the library are missing (reason STORE_SUSPECT).
        """
        await self._objects.expect_right_store()
        began = datetime.now(UTC)
        found = await self._look(began)
        lost, known = await self._lost.find(found.present)
        made = await self._lost.find_made(found.present)
        # A store that has become unavailable meanwhile looks like an empty one.
        await self._objects.expect_right_store()
        report = Report()
        lost, made = await self._bring_back(lost, made, found, report, dry_run=dry_run)
        if lost and len(lost) == known:
            raise PreconditionError(
                f"All {known} objects of the library are missing: is this the right object store?",
                "STORE_SUSPECT",
            )
        report.held_back = _reason_to_hold_back(len(lost), known)
        states = await self._states.all()
        if not (dry_run or report.held_back):
            made = await self._remake(made, found, states, report)
        lost += made
        await self._process_lost(lost, states, began, report, dry_run=dry_run)
        await self._process_orphans(found, states, began, report, dry_run=dry_run)
        for state in states.values():
            if state.damaged_since is not None and state.key in found.present:
                report.add_damaged(state)
        if not dry_run:
            await self._forget_states(states, found, lost)
            await self._states.measure()
            await self._usage.note_kinds(found.kinds)
        _log_report(report, dry_run=dry_run)
        return report

    async def _look(self, began: datetime) -> _Listing:
        found = _Listing()
        for prefix in (UPLOADS, *KEPT, DERIVED, TRASH):
            before = began - self._ages.get(prefix, self._age)
            count = size = 0
            old: list[ObjectInfo] = []
            async for info in self._objects.list(prefix):
                count, size = count + 1, size + info.size
                if prefix in KEPT:
                    found.present.add(info.key)
                if prefix == TRASH:
                    found.trash.append(info)
                elif info.last_modified < before:
                    old.append(info)
                if len(old) == BATCH:
                    found.orphans += await self._without_record(old)
                    old.clear()
            found.orphans += await self._without_record(old)
            found.partials += [info for info in await self._objects.partials(prefix) if info.last_modified < before]
            found.kinds[prefix] = (count, size)
        return found

    async def _without_record(self, objects: list[ObjectInfo]) -> list[ObjectInfo]:
        """Those objects that no track and no job needs. Converted copies count with their source."""
        unused = set(await self._tracks.unused(list({_recorded_key(info.key) for info in objects})))
        return [info for info in objects if _recorded_key(info.key) in unused]

    async def _bring_back(
        self, lost: list[LostRecord], made: list[LostRecord], found: _Listing, report: Report, *, dry_run: bool
    ) -> tuple[list[LostRecord], list[LostRecord]]:
        """Moves missing objects that a record needs from the trash back; returns the records that still lack one."""
        missing = [key for info in found.trash if (key := kept_key(info.key)) not in found.present]
        back: set[str] = set()
        for first in range(0, len(missing), BATCH):
            some = missing[first : first + BATCH]
            back.update(set(some).difference(await self._tracks.unused(some)))
        for key in sorted(back) if not dry_run else ():
            await self._remover.bring_back(key)
            found.present.add(key)
        report.restored_count = len(back)
        return [one for one in lost if one.key not in back], [one for one in made if one.key not in back]

    async def _remake(
        self, made: list[LostRecord], found: _Listing, states: dict[str, ObjectState], report: Report
    ) -> list[LostRecord]:
        """Makes missing peaks and pictures again; returns the records that still lack one."""
        wanted: dict[str, set[str]] = {}
        for one in made:
            is_damaged = one.source in states and states[one.source].damaged_since is not None
            if one.source in found.present and not is_damaged:
                wanted.setdefault(one.source, set()).add(one.key)
        remade: set[str] = set()
        for source, keys in list(wanted.items())[:MOST_REMADE] if self._remaker else ():
            assert self._remaker is not None
            remade |= await self._remaker.remake(source, keys)
        found.present |= remade
        report.restored_count += len(remade)
        return [one for one in made if one.key not in remade]

    async def _process_lost(
        self, lost: list[LostRecord], states: dict[str, ObjectState], began: datetime, report: Report, *, dry_run: bool
    ) -> None:
        """Marks records without an object, and drops those that have been without it for long."""
        since = {one.key: (states[one.key].missing_since if one.key in states else None) or began for one in lost}
        expired = {key: time for key, time in since.items() if time <= began - self._missing_for}
        settled = self._missed.since(expired, min(self._missing_for.total_seconds(), SETTLED_SECONDS))
        gone: list[LostRecord] = []
        for one in lost:
            if one.key in settled and not report.held_back:
                gone.append(one)
                report.add_record(one)
            else:
                report.add_missing(one, since[one.key])
        if dry_run:
            return
        keys = {one.key for one in lost}
        await self._states.note("missing_since", keys, began)
        there = {state.key for state in states.values() if state.missing_since is not None} - keys
        await self._states.clear("missing_since", there)
        await self._lost.drop(gone)

    async def _process_orphans(
        self, found: _Listing, states: dict[str, ObjectState], began: datetime, report: Report, *, dry_run: bool
    ) -> None:
        """Removes objects that have been without a record for long enough."""

        def unneeded_since(info: ObjectInfo) -> datetime:
            state = states.get(info.key)
            return (state.unneeded_since if state else None) or began

        waiting = [info for info in found.orphans if info.key.startswith(tuple(f"{prefix}/" for prefix in KEPT))]
        if not dry_run:
            keys = {info.key for info in waiting}
            await self._states.note("unneeded_since", (*keys, *(info.key for info in found.trash)), began)
            needed = {state.key for state in states.values() if state.unneeded_since is not None} & found.present
            await self._states.clear("unneeded_since", needed - keys)
        early = {info.key for info in waiting if unneeded_since(info) > began - self._unneeded_for}
        expired = [info for info in found.trash if unneeded_since(info) <= began - self._trashed_for]
        early |= self._unsettled(info for info in (*found.orphans, *found.partials, *expired) if info.key not in early)
        report.waiting_count = len(early)
        if report.held_back:
            return
        due = [info for info in (*found.orphans, *expired) if info.key not in early]
        for number, info in enumerate(due):
            if number % BATCH == BATCH - 1:
                await self._objects.expect_right_store()
            is_trashed = info.key.startswith(LASTING) and bool(self._trashed_for)
            if dry_run or await self._remove(info.key, to_trash=is_trashed):
                report.trashed_count += is_trashed
                report.add_object(info)
        for info in (one for one in found.partials if one.key not in early):
            if not dry_run:
                await self._objects.delete_partial(info)
            report.add_object(info)

    def _unsettled(self, due: Iterable[ObjectInfo]) -> set[str]:
        """Keys of the objects that have not been seen due for long enough."""
        seen = self._due.seconds({info.key: info.last_modified for info in due})
        ages = self._ages | {TRASH: self._trashed_for}
        waits = {key: ages.get(key.partition("/")[0], self._age).total_seconds() for key in seen}
        return {key for key, seconds in seen.items() if seconds < min(waits[key], SETTLED_SECONDS)}

    async def _remove(self, key: str, *, to_trash: bool) -> bool:
        """Removes an object unless a track needs it by now. Returns whether it was removed."""
        if to_trash:
            if not await self._remover.put_into_trash(key):
                return False
            # Forgets an earlier time in the trash.
            await self._states.forget([trash_key(key)])
            return True
        if _recorded_key(key) == key and not key.startswith(f"{TRASH}/"):
            return bool(await self._remover.remove([key]))
        await self._objects.delete(key)
        return True

    async def _forget_states(self, states: dict[str, ObjectState], found: _Listing, lost: Iterable[LostRecord]) -> None:
        """Deletes the states of objects that neither exist nor are missing."""
        kept = found.present | {info.key for info in found.trash} | {one.key for one in lost}
        await self._states.forget(states.keys() - kept)


def _recorded_key(key: str) -> str:
    """Key of the object whose record is needed to keep an object: its source if it is a converted copy, else itself."""
    return source_key(key) if key.startswith(f"{DERIVED}/") else key


def _reason_to_hold_back(missing: int, known: int) -> str:
    """Says why nothing is removed if at least half of the objects are missing; else empty."""
    if not missing or missing * 2 < known:
        return ""
    return f"{missing} of {known} objects of the library are missing: nothing is removed until they are back."


def _log_report(report: Report, *, dry_run: bool) -> None:
    if report.held_back:
        log.error("many objects are missing in the object store", detail=report.held_back)
    elif report.missing_count:
        log.warning("objects are missing", count=report.missing_count, some=report.missing[:5])
    if report.object_count or report.record_count or report.restored_count:
        log.info(
            "objects and records swept",
            objects=report.object_count,
            trashed=report.trashed_count,
            records=report.record_count,
            restored=report.restored_count,
            dry_run=dry_run,
        )
