"""Removing objects that no track needs, with what was derived from them."""

import contextlib
from collections.abc import Iterable

import structlog

from services.common import audio
from services.common.errors import NotFoundError
from services.common.jobs.queue import JobQueue
from services.common.storage.objects import ObjectStore
from services.download.tracks.repository import TrackRepository
from services.download.tracks.user_tracks import UserTracks

log = structlog.get_logger(__name__)

DERIVED = "derived"
TRASH = "trash"


def derived_key(key: str, audio_format: str) -> str:
    """The key of an object's sound in another format."""
    return f"{DERIVED}/{key}.{audio_format}"


def source_key(derived: str) -> str:
    """The key of the object that one in another format was made of."""
    return derived.removeprefix(f"{DERIVED}/").rpartition(".")[0]


async def remove_derived(objects: ObjectStore, key: str) -> None:
    """Removes what was made of an object's sound in other formats."""
    for name in audio.FORMATS:
        await objects.delete(derived_key(key, name))


def trash_key(key: str) -> str:
    """Where an object lies once it is in the trash."""
    return f"{TRASH}/{key}"


class Remover:
    """Removes objects, unless a track needs them after all by then."""

    def __init__(self, objects: ObjectStore, library: TrackRepository) -> None:
        self._objects = objects
        self._library = library

    async def remove(self, keys: Iterable[str]) -> int:
        """Removes those of these objects that no track needs.

        Returns:
            Their number.
        """
        removed = 0
        for key in keys:
            async with self._library.deciding_on(key) as is_used:
                if not is_used:
                    await self._objects.delete(key)
            if not is_used:
                removed += 1
                await remove_derived(self._objects, key)
        return removed

    async def missing(self, keys: Iterable[str]) -> list[str]:
        """Those of these objects that are not there, once nobody is about to remove one of them."""
        gone = []
        for key in keys:
            async with self._library.deciding_on(key):
                if not await self._objects.exists(key):
                    gone.append(key)
        return gone

    async def put_into_trash(self, key: str) -> bool:
        """Moves an object into the trash of the store unless a track needs it; False if so."""
        async with self._library.deciding_on(key) as is_used:
            if not is_used:
                with contextlib.suppress(NotFoundError):
                    await self._objects.copy(key, trash_key(key))
                await self._objects.delete(key)
        if not is_used:
            await remove_derived(self._objects, key)
        return not is_used

    async def bring_back(self, key: str) -> None:
        """Moves an object out of the trash."""
        async with self._library.deciding_on(key):
            if not await self._objects.exists(key):
                await self._objects.copy(trash_key(key), key)
            await self._objects.delete(trash_key(key))

    async def expect_right_store(self) -> None:
        """As `ObjectStore.expect_right_store`."""
        await self._objects.expect_right_store()


class Trash:
    """Ends what users have removed for good, once their grace period is over."""

    def __init__(self, library: TrackRepository, user_tracks: UserTracks, remover: Remover, jobs: JobQueue) -> None:
        self._library = library
        self._user_tracks = user_tracks
        self._remover = remover
        self._jobs = jobs

    async def empty(self, user_id: str = "", track_id: str = "") -> int:
        """Ends the access of users whose grace period is over, and removes tracks that nobody has any more.

        What a job is at work on stays for the next time. If given, only this user's removal of this track counts.

        Returns:
            Number of removals that are done with.

        Raises:
            UnavailableError: there are such removals, and the store is away or not the library's: all stays.
        """
        done = 0
        expired = await self._user_tracks.expired(user_id, track_id)
        if expired:
            await self._remover.expect_right_store()
        in_use = {record.subject for record in await self._jobs.unfinished()} if expired else set()
        for user_id, track_id in expired:
            if track_id in in_use:
                continue
            keys = await self._library.forget(user_id, track_id, self._user_tracks.removed_before())
            if keys is not None:
                done += 1
                await self._remover.remove(keys)
        if done:
            log.info("removed tracks are gone", count=done)
        return done
