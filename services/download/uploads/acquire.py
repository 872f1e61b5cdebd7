"""How audio gets into the library: checked by a full decode before a track counts as there."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from services.common.storage.objects import ObjectStore
from services.download.config import DownloadSettings
from services.download.fetching.links import LinkFetcher
from services.download.tables import Track
from services.download.tracks.repository import AudioFacts, SongFacts, TrackRepository
from services.download.uploads.drafts import Drafts
from services.download.uploads.inspection import Inspector, tell_nobody
from services.download.uploads.originals import Originals, copies_of, flac_of, peaks_of

ExpectRoom = Callable[[int], Awaitable[None]]


class Acquirer:
    """Takes files to checked originals in the object store.

    Args:
        settings: of the process.
        objects: where the originals are kept.
        library: the tracks.

    Attributes:
        inspector: checks and converts files.
        links: takes links to originals.
    """

    def __init__(self, settings: DownloadSettings, objects: ObjectStore, library: TrackRepository) -> None:
        self._library = library
        self._originals = Originals(objects, library)
        self._drafts = Drafts(objects, settings.limit.max_bytes)
        self.inspector = Inspector(settings, objects)
        self.links = LinkFetcher(settings, self._drafts, library, self.inspector, self._originals)

    async def close(self) -> None:
        """Ends the child processes."""
        await self.inspector.close()
        await self.links.close()

    async def upload(
        self,
        user_id: str,
        filename: str,
        chunks: AsyncIterator[bytes],
        expect_room: ExpectRoom,
        reservation_id: str = "",
        *,
        stored: bool = False,
    ) -> tuple[Track, bool]:
        """Keeps an uploaded file, and tells whether its track is new to the user.

        Args:
            user_id: whose it is.
            filename: gives the title if the file has no tags.
            chunks: the file's bytes.
            expect_room: called with what is to be kept, in bytes, twice: when the file is there, and when its peaks and
                picture are; raises if there is no room for that.
            reservation_id: of the room, which the track takes.
            stored: the bytes come from the store, not from a client, who may be slow.

        Raises:
            InvalidInputError: not usable as a song (reason EMPTY_FILE, NOT_AUDIO, …).
            LimitExceededError: too large or too long (reason TOO_LARGE, TOO_LONG), no room, or too much of the user's
                waits to be checked (reason TOO_MANY_WAITING).
        """
        async with self.checked(user_id, chunks, expect_room, stored=stored) as (facts, tags):
            song = SongFacts(tags["title"] or Path(filename).stem or "Untitled", tags["artist"])
            # Of the same sound in another file, a track keeps the file that it has.
            return await self._library.add_upload(user_id, song, facts, reservation_id=reservation_id)

    @asynccontextmanager
    async def checked(
        self, user_id: str, chunks: AsyncIterator[bytes], expect_room: ExpectRoom, *, stored: bool = False
    ) -> AsyncIterator[tuple[AudioFacts, dict[str, str]]]:
        """What a file that a user brings holds, and its tags; it is kept for the tracks that the block gives it to.

        Raises:
            InvalidInputError, LimitExceededError: as for `upload`.
        """
        async with self._drafted(chunks, stored=stored) as (draft, digest, size):
            await expect_room(size)
            facts, tags = await self.inspector.check(user_id, draft, digest, tell_nobody)
            await expect_room(facts.size_bytes or size)
            async with self._originals.keeping(copies_of(draft, facts)):
                yield facts, tags

    @asynccontextmanager
    async def checked_stem(
        self, user_id: str, chunks: AsyncIterator[bytes]
    ) -> AsyncIterator[tuple[AudioFacts, dict[str, str]]]:
        """What a stem's file holds, and the keys of its FLAC and peaks (`audio_key`, `peaks_key`), as `checked`.

        Raises:
            InvalidInputError, LimitExceededError: as for `upload`.
        """
        async with self._drafted(chunks) as (draft, digest, _size):
            facts, _tags = await self.inspector.check(user_id, draft, digest, tell_nobody)
            # A FLAC too is written again: all that lies below stems/ was made here, and its readers may trust it.
            flac = flac_of(draft)
            await self.inspector.convert(user_id, draft, "flac", flac)
            key = f"stems/imported/{digest}.flac"
            keys = {"audio_key": key, "peaks_key": f"{key}.peaks"}
            async with self._originals.keeping({key: flac, keys["peaks_key"]: peaks_of(draft)}):
                yield facts, keys

    @asynccontextmanager
    async def _drafted(
        self, chunks: AsyncIterator[bytes], *, stored: bool = False
    ) -> AsyncIterator[tuple[str, str, int]]:
        """An object with these bytes for the time of the block, their SHA-256 in hex, and their number."""
        draft = f"uploads/{uuid.uuid4().hex}"
        try:
            digest, size = await self._drafts.put(draft, chunks, stored=stored)
            yield draft, digest, size
        finally:
            await asyncio.shield(self._originals.forget_draft(draft))
