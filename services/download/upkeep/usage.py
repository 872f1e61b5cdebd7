"""Measures the storage of tracks, by user and by kind, and checks quotas."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from prometheus_client import Gauge
from sqlalchemy import ColumnElement, Select, delete, exists, func, select, update

from services.common.errors import NotFoundError
from services.common.storage.database import Database
from services.common.storage.objects import ObjectStore
from services.download.tables import Access, OwnStem, Playlist, Quota, Stem, StoredKind, Track
from services.download.tracks.results import STEMS
from services.download.tracks.versions import Kept
from services.download.upkeep.reservations import HeldRoom, Reservations

# Number of tracks and stems measured in a call; maintenance measures the rest.
MEASURED_AT_ONCE = 500

STORED_OBJECTS = Gauge("stemtube_storage_objects", "Objects in the store, as last counted.", ["prefix"])
STORED_BYTES = Gauge("stemtube_storage_bytes", "Bytes of the objects in the store, as last counted.", ["prefix"])


@dataclass(frozen=True, slots=True)
class StorageUse:
    """The storage that a user's tracks take, the user's quota (0: no limit), and the number of tracks."""

    used_bytes: int
    quota_bytes: int
    track_count: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """Numbers of users, tracks, stems, playlists and objects."""

    user_count: int
    track_count: int
    deleted_track_count: int
    stem_count: int
    playlist_count: int
    storage: list[StoredKind]


class Usage:
    """Measures and limits the storage of users.

    A track counts in full for each user who has it, so that the numbers of one user reveal nothing about others. A
    deleted track counts as long as it can be restored. A user's own stems count for that user alone. Originals, peaks,
    pictures and stems count. Copies in other formats (`derived/`) do not: they are a cache with a size of its own.

    Args:
        database: the library's database.
        objects: the object store.
        quota_bytes: quota of users without an individual one; 0 for no limit.
    """

    def __init__(self, database: Database, objects: ObjectStore, quota_bytes: int) -> None:
        self._database = database
        self._objects = objects
        self._quota_bytes = quota_bytes
        self.reservations = Reservations(database, quota_bytes)

    @asynccontextmanager
    async def held(self, user_id: str) -> AsyncIterator[HeldRoom]:
        """Yields a reservation in a user's quota, of 0 bytes at first, that lasts until the end of the block."""
        # Tracks that are not measured would not count.
        await self.measure(user_id)
        async with self.reservations.held(user_id) as held:
            yield held

    async def of_link(self, user_id: str, url: str) -> int:
        """Bytes that the track of a link adds to a user's storage; 0 if its audio has not been fetched."""
        track = select(Track.id, Track.size_bytes).where(Track.source_url == url)
        async with self._database.read() as session:
            row = (await session.execute(track)).first()
            if row is None or await session.get(Access, (user_id, row.id)) is not None:
                return 0
            stems = select(func.coalesce(func.sum(Stem.size_bytes), 0)).where(Stem.track_id == row.id)
            return (row.size_bytes or 0) + int(await session.scalar(stems) or 0)

    async def sizes_of(self, stems: Sequence[Mapping[str, Any]]) -> dict[str, int]:
        """Bytes of each stem with its peaks, by name."""
        return {
            stem["name"]: await self._size(stem["audio_key"]) + await self._size(stem["peaks_key"]) for stem in stems
        }

    async def added_by(self, user_id: str, track_id: str, model: str, sizes: Mapping[str, int], kept: Kept) -> int:
        """Bytes that new stems add to a user's storage, less those of the stems that they replace.

        Args:
            user_id: the user.
            track_id: the track's id.
            model: the model that made them.
            sizes: bytes of each stem, by name.
            kept: where the stems are stored.
        """
        if kept is Kept.NOT:
            return 0
        table: type[Stem | OwnStem] = OwnStem if kept is Kept.OWN else Stem
        replaced = select(func.coalesce(func.sum(table.size_bytes), 0)).where(
            table.track_id == track_id, table.model == model, table.name.in_(sizes)
        )
        if kept is Kept.OWN:
            replaced = replaced.where(OwnStem.user_id == user_id)
        async with self._database.read() as session:
            return sum(sizes.values()) - int(await session.scalar(replaced) or 0)

    async def of(self, user_id: str) -> StorageUse:
        """The storage of a user."""
        await self.measure(user_id)
        tracks = select(func.coalesce(func.sum(Track.size_bytes), 0), func.count()).join(Access)
        stems = select(func.coalesce(func.sum(Stem.size_bytes), 0)).join(Access, Access.track_id == Stem.track_id)
        own_stems = select(func.coalesce(func.sum(OwnStem.size_bytes), 0)).where(OwnStem.user_id == user_id)
        async with self._database.read() as session:
            originals, count = (await session.execute(tracks.where(Access.user_id == user_id))).one()
            separated = await session.scalar(stems.where(Access.user_id == user_id))
            separated_by_hand = await session.scalar(own_stems)
            own = await session.get(Quota, user_id)
        quota = own.quota_bytes if own else self._quota_bytes
        return StorageUse(int(originals or 0) + int(separated or 0) + int(separated_by_hand or 0), quota, count)

    async def of_all(self) -> dict[str, StorageUse]:
        """The storage of each user who has tracks or an individual quota. Tracks that are not measured do not count."""
        tracks = select(Access.user_id, func.sum(Track.size_bytes), func.count()).join(Track).group_by(Access.user_id)
        stems = select(Access.user_id, func.sum(Stem.size_bytes)).join(Stem, Access.track_id == Stem.track_id)
        own_stems = select(OwnStem.user_id, func.sum(OwnStem.size_bytes)).group_by(OwnStem.user_id)
        async with self._database.read() as session:
            originals = {user: (int(size or 0), count) for user, size, count in await session.execute(tracks)}
            grouped = await session.execute(stems.group_by(Access.user_id))
            separated = Counter({user: int(size or 0) for user, size in grouped})
            separated.update({user: int(size or 0) for user, size in await session.execute(own_stems)})
            quotas = {own.user_id: own.quota_bytes for own in await session.scalars(select(Quota))}
        uses = {}
        for user in sorted(originals.keys() | quotas.keys()):
            size, count = originals.get(user, (0, 0))
            quota = quotas.get(user, self._quota_bytes)
            uses[user] = StorageUse(size + separated[user], quota, count)
        return uses

    async def set_quota(self, user_id: str, quota_bytes: int | None) -> None:
        """Sets a user's quota: 0 for no limit, None for the quota in the settings."""
        async with self._database.write() as session:
            await session.execute(delete(Quota).where(Quota.user_id == user_id))
            if quota_bytes is not None:
                session.add(Quota(user_id=user_id, quota_bytes=quota_bytes))

    async def has_limit(self, user_id: str) -> bool:
        """Whether a user's storage is limited."""
        return await self.reservations.has_limit(user_id)

    async def expect_room(self, user_id: str, size_bytes: int = 1) -> None:
        """Checks that a user's quota has room besides all reservations, and reserves nothing.

        Raises:
            LimitExceededError: there is not enough room (reason QUOTA_EXCEEDED).
        """
        if await self.has_limit(user_id):
            await self.measure(user_id)
            await self.reservations.expect(user_id, size_bytes)

    async def measure(self, user_id: str | None = None) -> int:
        """Measures tracks and stems (of one user) that have not been measured, up to a limit. Returns their number."""
        tracks = select(Track.id, Track.audio_key, Track.peaks_key, Track.cover_key).where(
            Track.audio_key != "", Track.size_bytes.is_(None)
        )
        if user_id is not None:
            tracks = tracks.where(exists().where(Access.track_id == Track.id, Access.user_id == user_id))
        async with self._database.read() as session:
            new_tracks = (await session.execute(tracks.limit(MEASURED_AT_ONCE))).all()
        for row in new_tracks:
            await self._note_size(row, Track, Track.id == row.id)
        return len(new_tracks) + sum([await self._measure_stems(table, user_id) for table in STEMS])

    async def _measure_stems(self, table: type[Stem | OwnStem], user_id: str | None) -> int:
        place = tuple(table.__table__.primary_key)
        stems = select(*place, table.audio_key, table.peaks_key).where(table.size_bytes.is_(None))
        if user_id is not None and table is OwnStem:
            stems = stems.where(OwnStem.user_id == user_id)
        elif user_id is not None:
            stems = stems.where(exists().where(Access.track_id == table.track_id, Access.user_id == user_id))
        async with self._database.read() as session:
            new = (await session.execute(stems.limit(MEASURED_AT_ONCE))).all()
        for row in new:
            await self._note_size(row, table, *(column == row[number] for number, column in enumerate(place)))
        return len(new)

    async def _note_size(self, row: Any, table: type[Track | Stem | OwnStem], *same: ColumnElement[bool]) -> None:
        size = await self._size(row.audio_key) + await self._size(row.peaks_key)
        size += await self._size(row.cover_key) if table is Track else 0
        async with self._database.write() as session:
            # The condition on the key excludes a row that has another object by now.
            await session.execute(update(table).where(*same, table.audio_key == row.audio_key).values(size_bytes=size))

    async def measure_all(self) -> None:
        """Measures all tracks and stems that have not been measured."""
        while await self.measure():
            pass

    async def note_kinds(self, kinds: Mapping[str, tuple[int, int]]) -> None:
        """Stores the number and bytes of objects by prefix, as counted now."""
        now = datetime.now(UTC)
        async with self._database.write(lock="stored kinds") as session:
            await session.execute(delete(StoredKind))
            session.add_all(
                StoredKind(prefix=prefix, object_count=count, size_bytes=size, count_time=now)
                for prefix, (count, size) in kinds.items()
            )
        for prefix, (count, size) in kinds.items():
            STORED_OBJECTS.labels(prefix).set(count)
            STORED_BYTES.labels(prefix).set(size)

    async def statistics(self) -> Statistics:
        """Counts the library."""

        shown = exists().where(Access.track_id == Track.id, Access.remove_time.is_(None))
        async with self._database.read() as session:

            async def count(query: Select[Any]) -> int:
                return int(await session.scalar(query) or 0)

            return Statistics(
                user_count=await count(select(func.count(Access.user_id.distinct()))),
                track_count=await count(select(func.count()).select_from(Track).where(shown)),
                deleted_track_count=await count(select(func.count()).select_from(Track).where(~shown)),
                stem_count=sum([await count(select(func.count()).select_from(table)) for table in STEMS]),
                playlist_count=await count(select(func.count()).select_from(Playlist)),
                storage=list(await session.scalars(select(StoredKind).order_by(StoredKind.prefix))),
            )

    async def _size(self, key: str) -> int:
        try:
            return (await self._objects.head(key)).size if key else 0
        except NotFoundError:
            return 0
