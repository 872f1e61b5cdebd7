"""Drafts become originals, peaks and covers under names that tell their content.

Equal files are one object, and equal work is recognised.
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
    """Keeps drafts under their names while a track needs them.

    Args:
        objects: where both lie.
        library: knows which objects tracks need.
    """

    def __init__(self, objects: ObjectStore, library: TrackRepository) -> None:
        self._objects = objects
        self._library = library
        self._states = ObjectStates(library.database)

    @asynccontextmanager
    async def keeping(self, copies: dict[str, str]) -> AsyncIterator[None]:
        """Keeps drafts under their names (name to draft) for the track that the block gives them to."""
        made: set[str] = set()
        try:
            for key, source in copies.items():
                was_there = await self._objects.exists(key)
                if was_there and await self._is_good(key):
                    continue
                await self._objects.copy(source, key)
                made.add(key)
                if was_there:
                    # They may have been made of the damaged bytes.
                    await remove_derived(self._objects, key)
            yield
        finally:
            await asyncio.shield(self._settle(copies, made))

    async def _is_good(self, key: str) -> bool:
        """Whether an object has the bytes that it should have, as far as its key tells."""
        if not ORIGINAL.fullmatch(key) or await is_whole(self._objects, key):
            return True
        log.warning("a damaged original is repaired", key=key)
        return False

    async def _settle(self, copies: dict[str, str], made: set[str]) -> None:
        """Sees to it that objects are there if a track needs them, and that none of `made` is if not.

        The end of another track with the same file may have removed them since they were found to be there.
        """
        await self._states.forget(made)
        for key, source in copies.items():
            async with self._library.deciding_on(key) as is_used:
                if not is_used:
                    # What was there before waits for the sweep: it may have lost its record by a fault.
                    if key in made:
                        await self._objects.delete(key)
                elif not await self._objects.exists(key):
                    await self._objects.copy(source, key)

    async def forget_draft(self, draft: str) -> None:
        """Deletes a draft and what was made of it."""
        for key in (draft, peaks_of(draft), cover_of(draft), flac_of(draft)):
            await self._objects.delete(key)


def copies_of(draft: str, facts: AudioFacts) -> dict[str, str]:
    """Where an original, its peaks and its cover belong, and their drafts."""
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
