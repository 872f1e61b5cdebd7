"""Finds records of the library whose objects are not in the store."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from sqlalchemy import delete, select, update

from services.common.storage.database import Database
from services.common.storage.objects import ObjectStore
from services.download.tables import Track
from services.download.tracks.results import STEMS

BATCH = 500


@dataclass(frozen=True, slots=True)
class LostRecord:
    """The record of an original, or of a stem (with `model` and `name`), whose object `key` is missing.

    If `source` is given, the object is the peaks or the picture of that original or stem.
    """

    track_id: str
    key: str
    model: str = ""
    name: str = ""
    source: str = ""


class LostRecords:
    """Finds and deletes records without an object.

    Args:
        objects: the object store.
        database: the library's database.
    """

    def __init__(self, objects: ObjectStore, database: Database) -> None:
        self._objects = objects
        self._database = database

    async def find(self, present: Collection[str]) -> tuple[list[LostRecord], int]:
        """Finds records without an object.

        Args:
            present: keys of objects that were listed in the store.

        Returns:
            These records, and the number of all records that should have an object.
        """
        known = 0
        lost: list[LostRecord] = []
        async with self._database.read() as session:
            tracks = select(Track.id, Track.audio_key).where(Track.audio_key != "")
            async for some in (await session.stream(tracks)).partitions(BATCH):
                known += len(some)
                lost += [LostRecord(row.id, row.audio_key) for row in some if row.audio_key not in present]
            for table in STEMS:
                stems = select(table.track_id, table.audio_key, table.model, table.name)
                async for several in (await session.stream(stems)).partitions(BATCH):
                    known += len(several)
                    lost += [LostRecord(*row) for row in several if row.audio_key not in present]
        return await self._still_missing(lost), known

    async def find_made(self, present: Collection[str]) -> list[LostRecord]:
        """Finds peaks and pictures of originals and stems that have no object.

        Args:
            present: keys of objects that were listed in the store.
        """
        lost: list[LostRecord] = []
        peaks = [select(table.track_id, table.peaks_key, table.audio_key) for table in STEMS]
        covers = select(Track.id, Track.cover_key, Track.audio_key)
        async with self._database.read() as session:
            for query in (select(Track.id, Track.peaks_key, Track.audio_key), covers, *peaks):
                async for some in (await session.stream(query)).partitions(BATCH):
                    lost += [
                        LostRecord(track_id, key, source=source)
                        for track_id, key, source in some
                        if key and key not in present
                    ]
        return await self._still_missing(lost)

    async def _still_missing(self, lost: Iterable[LostRecord]) -> list[LostRecord]:
        """Leaves out those whose object was written after the listing."""
        return [one for one in lost if not await self._objects.exists(one.key)]

    async def drop(self, lost: Iterable[LostRecord]) -> None:
        """Deletes stems and empties other keys, unless they are of another object by now."""
        async with self._database.write() as session:
            for one in lost:
                if one.source:
                    for column in (Track.peaks_key, Track.cover_key, *(table.peaks_key for table in STEMS)):
                        await session.execute(update(column.class_).where(column == one.key).values({column: ""}))
                elif one.name:
                    for table in STEMS:
                        same_stem = (table.track_id == one.track_id, table.model == one.model, table.name == one.name)
                        await session.execute(delete(table).where(*same_stem, table.audio_key == one.key))
                else:
                    same = (Track.id == one.track_id, Track.audio_key == one.key)
                    gone = {"audio_key": "", "peaks_key": "", "cover_key": "", "size_bytes": None}
                    await session.execute(update(Track).where(*same).values(**gone))
