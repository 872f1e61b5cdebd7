"""Users' tracks: lists, own names, favourites, notes, edits and deleted tracks."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.common.storage.database import Database
from services.download.tables import Access, Edit, OwnAnalysis, Track
from services.download.tracks.listing import Listing
from services.download.tracks.repository import visible
from services.download.tracks.results import TrackData, add_results, no_such_track, summary_of, update_list_columns

# The time of removal of a track that cannot be restored.
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class UserTracks:
    """Reads and changes users' tracks.

    Args:
        database: the library's database.
        grace: how long a removed track can be restored.
    """

    def __init__(self, database: Database, grace: timedelta) -> None:
        self._database = database
        self.grace = grace

    async def tracks(
        self, user_id: str, listing: Listing, after: tuple[Any, str] | None, limit: int
    ) -> list[tuple[TrackData, Any]]:
        """Returns a page of a list: tracks, each with the value that it is sorted by.

        The tracks have stems and summaries of tempo and key, without beats, chords, sections and lyrics.
        """
        query = listing.query(user_id, after, limit, self.removed_before())
        async with self._database.read() as session:
            rows = (await session.execute(query)).all()
            found = {track.id: TrackData(track, access) for track, access, _ in rows}
            await add_results(session, user_id, found)
            return [(found[track.id], value) for track, _, value in rows]

    async def update(self, user_id: str, track_id: str, changes: Mapping[str, Any]) -> TrackData:
        """Changes title, artist, favourite or notes of a user's track.

        Raises:
            NotFoundError: the user has no such track (reason NO_SUCH_TRACK).
        """
        async with self._database.write() as session:
            track, access = await _locked(session, user_id, track_id)
            for name, value in changes.items():
                is_own = name in ("title", "artist") and value == getattr(track, name)
                setattr(access, name, None if is_own else value)
            if "title" in changes or "artist" in changes:
                access.offered_title = access.offered_artist = None
            await session.flush()
            await update_list_columns(session, track, user_id)
            found = {track_id: TrackData(track, access)}
            await add_results(session, user_id, found)
            return found[track_id]

    async def remove(self, user_id: str, track_id: str, *, for_good: bool = False) -> None:
        """Removes a track from a user's library. `restore` can bring it back, unless it is removed permanently.

        Raises:
            NotFoundError: the user has no such track (reason NO_SUCH_TRACK).
        """
        async with self._database.write() as session:
            _, access = await _locked(session, user_id, track_id, removed=for_good)
            access.remove_time = LONG_AGO if for_good else datetime.now(UTC)

    async def restore(self, user_id: str, track_id: str) -> TrackData:
        """Brings a removed track back.

        Raises:
            NotFoundError: the user had no such track, or removed it too long ago (reason NO_SUCH_TRACK).
        """
        async with self._database.write() as session:
            track, access = await _locked(session, user_id, track_id, removed=True)
            if access.remove_time is not None and access.remove_time <= self.removed_before():
                raise no_such_track()
            access.remove_time = None
            await session.flush()
            await update_list_columns(session, track, user_id)
            found = {track_id: TrackData(track, access)}
            await add_results(session, user_id, found)
            return found[track_id]

    async def edit(self, user_id: str, track_id: str, part: str, content: dict[str, Any]) -> None:
        """Stores a part that a user has corrected.

        Raises:
            NotFoundError: the user has no such track (reason NO_SUCH_TRACK).
        """
        async with self._database.write() as session:
            track, _ = await _locked(session, user_id, track_id)
            await session.merge(
                Edit(
                    user_id=user_id,
                    track_id=track_id,
                    part=part,
                    content=content,
                    summary=summary_of(content),
                    edit_time=datetime.now(UTC),
                )
            )
            await session.flush()
            await update_list_columns(session, track, user_id)

    async def revert(self, user_id: str, track_id: str, part: str, *, to_shared: bool = False) -> None:
        """Deletes a user's edit of a part, if there is one; with `to_shared`, also the user's own version.

        Raises:
            NotFoundError: the user has no such track (reason NO_SUCH_TRACK).
        """
        async with self._database.write() as session:
            track, _ = await _locked(session, user_id, track_id)
            for table in (Edit, OwnAnalysis) if to_shared else (Edit,):
                mine = (table.user_id == user_id, table.track_id == track_id, table.part == part)
                await session.execute(delete(table).where(*mine))
            await update_list_columns(session, track, user_id)

    async def expired(self, user_id: str = "", track_id: str = "") -> dict[tuple[str, str], datetime]:
        """The times of removals that can no longer be undone, by user and track; only that of one if given.

        Permanent removals have the time `LONG_AGO`.
        """
        query = select(Access.user_id, Access.track_id, Access.remove_time).where(
            Access.remove_time <= self.removed_before()
        )
        if user_id:
            query = query.where(Access.user_id == user_id, Access.track_id == track_id)
        async with self._database.read() as session:
            return {(user, track): time for user, track, time in await session.execute(query) if time}

    def removed_before(self) -> datetime:
        """Removals up to this time can no longer be undone."""
        return datetime.now(UTC) - self.grace


async def _locked(session: AsyncSession, user_id: str, track_id: str, *, removed: bool = False) -> tuple[Track, Access]:
    """Locks and returns a user's track; with `removed`, also one that the user has removed."""
    track = await session.get(Track, track_id, with_for_update=True)
    access = await session.get(Access, (user_id, track_id)) if removed else await visible(session, user_id, track_id)
    if track is None or access is None:
        raise no_such_track()
    return track, access
