"""Orphans both ways: objects that nothing in the library needs (drafts of broken uploads, originals and stems without a
track), and records of objects that are gone.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import delete, select, update

from services.common.database import Database
from services.common.errors import PreconditionError
from services.common.storage import ObjectInfo, ObjectStore
from services.download.removal import DERIVED, Remover, source_key
from services.download.results import STEMS
from services.download.store import Library
from services.download.tables import OwnStem, Stem, Track
from services.download.usage import Usage

log = structlog.get_logger(__name__)

BATCH = 500
KEPT = ("originals", "peaks", "covers", "stems")
SHOWN = 100
# A store of which most is missing is not damaged but another one, or not mounted: nothing is concluded from it.
SUSPECT_RECORDS = 10


@dataclass(slots=True)
class Report:
    """What a sweep found: objects without a record, records without an object (track id, key), and some of each."""

    object_count: int = 0
    object_bytes: int = 0
    objects: list[str] = field(default_factory=list)
    record_count: int = 0
    records: list[str] = field(default_factory=list)
    expired_track_count: int = 0

    def add_object(self, info: ObjectInfo) -> None:
        """Notes an object without a record."""
        self.object_count += 1
        self.object_bytes += info.size
        self.objects += [info.key][: SHOWN - len(self.objects)]

    def add_record(self, track_id: str, key: str) -> None:
        """Notes a record without an object."""
        self.record_count += 1
        self.records += [f"{track_id} {key}"][: SHOWN - len(self.records)]


class Sweeper:
    """Looks for orphans and removes them.

    Args:
        objects: the store.
        database: the library's.
        older_than: younger objects are left alone: somebody may still be working on them.
        stems_older_than: younger stems are: the separation service gives those of its kept jobs to equal requests.
        usage: is told what lies in the store.
    """

    def __init__(
        self,
        objects: ObjectStore,
        database: Database,
        usage: Usage,
        *,
        older_than: timedelta,
        stems_older_than: timedelta,
    ) -> None:
        self._objects = objects
        self._database = database
        self._library = Library(database)
        self._remover = Remover(objects, self._library)
        self._usage = usage
        self._ages = {"stems": stems_older_than}
        self._age = older_than

    async def sweep(self, *, dry_run: bool = False) -> Report:
        """Removes orphans, or only reports them.

        Raises:
            PreconditionError: most objects that the library knows are missing (reason STORE_SUSPECT).
        """
        report = Report()
        kinds: dict[str, tuple[int, int]] = {}
        present: set[str] = set()
        began = datetime.now(UTC)
        for prefix in ("uploads", *KEPT, DERIVED):
            before = began - self._ages.get(prefix, self._age)
            count = size = 0
            old: list[ObjectInfo] = []
            orphans: list[ObjectInfo] = []
            async for info in self._objects.list(prefix):
                count, size = count + 1, size + info.size
                if prefix in KEPT:
                    present.add(info.key)
                if info.last_modified < before:
                    old.append(info)
                if len(old) == BATCH:
                    orphans += await self._without_record(old)
                    old.clear()
            orphans += await self._without_record(old)
            kinds[prefix] = (count, size)
            for info in orphans:
                if dry_run or await self._remove(info.key):
                    report.add_object(info)
        await self._records_without_object(present, report, dry_run=dry_run)
        if not dry_run:
            await self._usage.note_kinds(kinds)
        if report.object_count or report.record_count:
            log.info("orphans", objects=report.object_count, records=report.record_count, dry_run=dry_run)
        return report

    async def _without_record(self, objects: list[ObjectInfo]) -> list[ObjectInfo]:
        """Those of these objects that no track needs, themselves or what they were made of."""
        unused = set(await self._library.unused(list({_needed(info.key) for info in objects})))
        return [info for info in objects if _needed(info.key) in unused]

    async def _remove(self, key: str) -> bool:
        """Removes an object unless a track needs it after all."""
        if _needed(key) == key:
            return bool(await self._remover.remove([key]))
        await self._objects.delete(key)
        return True

    async def _records_without_object(self, present: set[str], report: Report, *, dry_run: bool) -> None:
        known = 0
        lost_tracks: list[tuple[str, str]] = []
        lost_stems: list[tuple[str, str]] = []
        async with self._database.read() as session:
            tracks = select(Track.id, Track.audio_key).where(Track.audio_key != "")
            async for some in (await session.stream(tracks)).partitions(BATCH):
                known += len(some)
                lost_tracks += [(row.id, row.audio_key) for row in some if row.audio_key not in present]
            for table in STEMS:
                async for several in (await session.stream(select(table.track_id, table.audio_key))).partitions(BATCH):
                    known += len(several)
                    lost_stems += [(row.track_id, row.audio_key) for row in several if row.audio_key not in present]
        # What was made after the listing is there all the same.
        lost_tracks = [lost for lost in lost_tracks if not await self._objects.exists(lost[-1])]
        lost_stems = [lost for lost in lost_stems if not await self._objects.exists(lost[-1])]
        missing = len(lost_tracks) + len(lost_stems)
        if missing > max(SUSPECT_RECORDS, known / 2):
            raise PreconditionError(
                f"{missing} of {known} objects that the library knows are missing: is this the right object store?",
                "STORE_SUSPECT",
            )
        for lost in (*lost_tracks, *lost_stems):
            report.add_record(lost[0], lost[-1])
        if not dry_run:
            await self._drop(lost_tracks, lost_stems)

    async def _drop(self, tracks: list[tuple[str, str]], stems: list[tuple[str, str]]) -> None:
        """Takes records back whose objects are gone, unless they have got others since."""
        async with self._database.write() as session:
            for track_id, key in tracks:
                same = (Track.id == track_id, Track.audio_key == key)
                gone = {"audio_key": "", "peaks_key": "", "cover_key": "", "size_bytes": None}
                await session.execute(update(Track).where(*same).values(**gone))
            for track_id, key in stems:
                for table in (Stem, OwnStem):
                    await session.execute(delete(table).where(table.track_id == track_id, table.audio_key == key))


def _needed(key: str) -> str:
    """The object whose record keeps an object: itself, or what it was made of."""
    return source_key(key) if key.startswith(f"{DERIVED}/") else key
