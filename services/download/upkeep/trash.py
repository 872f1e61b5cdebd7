"""Removes objects that no track and no job needs, with their copies in other formats."""

import contextlib
from collections.abc import Iterable
from datetime import datetime

import structlog

from services.common import audio
from services.common.errors import NotFoundError
from services.common.jobs.queue import JobQueue
from services.common.storage.objects import ObjectStore
from services.common.unchanged import SETTLED_SECONDS, Unchanged
from services.download.tracks.repository import TrackRepository
from services.download.tracks.user_tracks import LONG_AGO, UserTracks

log = structlog.get_logger(__name__)

DERIVED = "derived"
TRASH = "trash"


def derived_key(key: str, audio_format: str) -> str:
    """The key of an object's copy in another format."""
    return f"{DERIVED}/{key}.{audio_format}"


def source_key(derived: str) -> str:
    """The key of the object from which a copy in another format was made."""
    return derived.removeprefix(f"{DERIVED}/").rpartition(".")[0]


async def remove_derived(objects: ObjectStore, key: str) -> None:
    """Removes an object's copies in other formats."""
    for name in audio.FORMATS:
        await objects.delete(derived_key(key, name))


def trash_key(key: str) -> str:
    """The key of an object in the trash."""
    return f"{TRASH}/{key}"


def kept_key(trashed: str) -> str:
    """The key that an object in the trash had before."""
    return trashed.removeprefix(f"{TRASH}/")


class Remover:
    """Removes objects unless a track needs them."""

    def __init__(self, objects: ObjectStore, tracks: TrackRepository) -> None:
        self._objects = objects
        self._tracks = tracks

    async def remove(self, keys: Iterable[str]) -> int:
        """Removes those objects that no track and no job needs, and returns their number."""
        removed = 0
        for key in keys:
            async with self._tracks.locked_object(key) as is_used:
                if not is_used:
                    await self._objects.delete(key)
            if not is_used:
                removed += 1
                await remove_derived(self._objects, key)
        return removed

    async def missing(self, keys: Iterable[str]) -> list[str]:
        """Keys of those objects that do not exist. Waits until no other process is removing them."""
        gone = []
        for key in keys:
            async with self._tracks.locked_object(key):
                if not await self._objects.exists(key):
                    gone.append(key)
        return gone

    async def put_into_trash(self, key: str) -> bool:
        """Moves an object into the trash of the store unless a track needs it. Returns whether it was moved."""
        async with self._tracks.locked_object(key) as is_used:
            if not is_used:
                with contextlib.suppress(NotFoundError):
                    await self._objects.copy(key, trash_key(key))
                await self._objects.delete(key)
        if not is_used:
            await remove_derived(self._objects, key)
        return not is_used

    async def bring_back(self, key: str) -> None:
        """Moves an object out of the trash."""
        async with self._tracks.locked_object(key):
            if not await self._objects.exists(key):
                await self._objects.copy(trash_key(key), key)
            await self._objects.delete(trash_key(key))

    async def expect_right_store(self) -> None:
        """See `ObjectStore.expect_right_store`."""
        await self._objects.expect_right_store()


class Trash:
    """Removes deleted tracks permanently when their grace period is over."""

    def __init__(self, tracks: TrackRepository, user_tracks: UserTracks, remover: Remover, jobs: JobQueue) -> None:
        self._tracks = tracks
        self._user_tracks = user_tracks
        self._remover = remover
        self._jobs = jobs
        self._expired: Unchanged[tuple[str, str], datetime] = Unchanged()

    async def empty(self, user_id: str = "", track_id: str = "") -> int:
        """Ends the access of users to deleted tracks whose grace period is over, and removes tracks that nobody has.

        Tracks that a job is processing are left for the next time. If a user and a track are given, only that removal
        is ended. Otherwise, removals are ended if they are permanent or were seen expired for `SETTLED_SECONDS`.

        Args:
            user_id: only deleted tracks of this user; empty for all users.
            track_id: only this track of the user.

        Returns:
            Number of accesses that were ended.

        Raises:
            UnavailableError: there are such tracks, and the object store is unavailable or not the library's. Nothing
                is removed then.
        """
        done = 0
        expired = list(await self._user_tracks.expired(user_id, track_id)) if user_id else await self._settled()
        if expired:
            await self._remover.expect_right_store()
        in_use = await self._jobs.subjects_in_work([track_id for _, track_id in expired])
        for user_id, track_id in expired:
            if track_id in in_use:
                continue
            keys = await self._tracks.forget(user_id, track_id, self._user_tracks.removed_before())
            if keys is not None:
                done += 1
                await self._remover.remove(keys)
        if done:
            log.info("deleted tracks removed for good", count=done)
        return done

    async def _settled(self) -> list[tuple[str, str]]:
        """User and track of removals that have expired, even if the clock was just set."""
        expired = await self._user_tracks.expired()
        seen = self._expired.seconds(expired)
        wait = min(self._user_tracks.grace.total_seconds(), SETTLED_SECONDS)
        return [removal for removal, time in expired.items() if time == LONG_AGO or seen[removal] >= wait]
