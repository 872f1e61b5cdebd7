"""Stores drafts as originals, peaks and covers under keys with the hash of their content.

So equal files are one object, and equal work is recognised.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from services.common.storage.objects import ObjectStore
from services.download.tracks.repository import AudioFacts, TrackRepository
from services.download.upkeep.object_states import ObjectStates
from services.download.upkeep.scrub import ORIGINAL, is_whole
from services.download.upkeep.trash import remove_derived

log = structlog.get_logger(__name__)


class Originals:
    """Copies drafts to their final keys, if a track needs them.

    Args:
        objects: the object store.
        tracks: know which objects they need.
    """

    def __init__(self, objects: ObjectStore, tracks: TrackRepository) -> None:
        self._objects = objects
        self._tracks = tracks
        self._states = ObjectStates(tracks.database)

    @asynccontextmanager
    async def keeping(self, copies: dict[str, str]) -> AsyncIterator[None]:
        """Copies drafts to their final keys. After the block they are removed, unless it has added a track with them.

        Args:
            copies: drafts by final key.
        """
        made: set[str] = set()
        try:
            for key, source in copies.items():
                was_there = await self._objects.exists(key)
                if was_there and await self._is_good(key):
                    continue
                await self._objects.copy(source, key)
                made.add(key)
                if was_there:
                    # They may have been made from the damaged bytes.
                    await remove_derived(self._objects, key)
            yield
        finally:
            await asyncio.shield(self._keep_needed(copies, made))

    async def _is_good(self, key: str) -> bool:
        """Whether an object's bytes match the digest in its key, if it has one."""
        if not ORIGINAL.fullmatch(key) or await is_whole(self._objects, key):
            return True
        log.warning("a damaged original is repaired", key=key)
        return False

    async def _keep_needed(self, copies: dict[str, str], made: set[str]) -> None:
        """Copies objects again that a track needs and that do not exist, and removes those of `made` that none needs.

        An object that existed before may be missing now, because another track with the same file was removed.
        """
        await self._states.forget(made)
        for key, source in copies.items():
            async with self._tracks.locked_object(key) as is_used:
                if not is_used:
                    # An object from before is left to the sweep: it may have lost its record by an error.
                    if key in made:
                        await self._objects.delete(key)
                elif not await self._objects.exists(key):
                    await self._objects.copy(source, key)

    async def forget_draft(self, draft: str) -> None:
        """Deletes a draft with its peaks, its cover and its FLAC."""
        for key in (draft, peaks_of(draft), cover_of(draft), flac_of(draft)):
            await self._objects.delete(key)


def copies_of(draft: str, facts: AudioFacts) -> dict[str, str]:
    """The drafts of an original, its peaks and its cover, by their final keys."""
    copies = {facts.audio_key: draft, facts.peaks_key: peaks_of(draft)}
    return copies | {facts.cover_key: cover_of(draft)} if facts.cover_key else copies


def peaks_of(draft: str) -> str:
    """The key of a draft's peaks."""
    return f"{draft}-peaks"


def cover_of(draft: str) -> str:
    """The key of a draft's cover."""
    return f"{draft}-cover"


def flac_of(draft: str) -> str:
    """The key of a draft converted to FLAC."""
    return f"{draft}-flac"
