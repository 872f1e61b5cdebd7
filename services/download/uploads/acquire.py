"""Adds audio to the library. A file is decoded in full before it becomes a track."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from services.common.storage.objects import ObjectStore
from services.download.config import DownloadSettings
from services.download.fetching.links import LinkFetcher
from services.download.tables import Track
from services.download.tracks.repository import AudioFacts, Grant, SongFacts, TrackRepository
from services.download.uploads.drafts import Drafts
from services.download.uploads.inspection import Inspector, ignore_progress
from services.download.uploads.originals import Originals, copies_of, flac_of, peaks_of
from services.download.uploads.titles import title_of

ExpectRoom = Callable[[int], Awaitable[None]]


class Acquirer:
    """Checks files, and stores them as originals.

    Args:
        settings: the process's settings.
        objects: the object store.
        tracks: the tracks of all users.

    Attributes:
        inspector: checks and converts files.
        links: fetches links.
    """

    def __init__(self, settings: DownloadSettings, objects: ObjectStore, tracks: TrackRepository) -> None:
        self._tracks = tracks
        self._originals = Originals(objects, tracks)
        self._drafts = Drafts(objects, settings.limit.max_bytes)
        self.inspector = Inspector(settings, objects)
        self.links = LinkFetcher(settings, self._drafts, tracks, self.inspector, self._originals)

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
    ) -> tuple[Track, Grant]:
        """Makes a track of an uploaded file.

        Args:
            user_id: the user who uploads it.
            filename: name of the file; the title if the file has no tags.
            chunks: the file's bytes.
            expect_room: called with the size in bytes, first of the file, then with its peaks and picture; raises if
                there is no room.
            reservation_id: the reservation of this room, which is released.
            stored: whether the bytes come from the object store, and not from a client, which may be slow.

        Returns:
            The track, and what adding it changed for the user.

        Raises:
            InvalidInputError: the file is not usable as a song (reason EMPTY_FILE, NOT_AUDIO, …).
            LimitExceededError: the file is too large or too long (reason TOO_LARGE, TOO_LONG), there is no room, or too
                many of the user's files wait to be checked (reason TOO_MANY_WAITING).
        """
        async with self.checked(user_id, chunks, expect_room, stored=stored) as (facts, tags):
            song = SongFacts(tags["title"] or title_of(filename), tags["artist"])
            # If the user has a track with the same sound from another file, it keeps its file.
            return await self._tracks.add_upload(
                user_id, song, facts, tagged=bool(tags["title"]), reservation_id=reservation_id
            )

    @asynccontextmanager
    async def checked(
        self, user_id: str, chunks: AsyncIterator[bytes], expect_room: ExpectRoom, *, stored: bool = False
    ) -> AsyncIterator[tuple[AudioFacts, dict[str, str]]]:
        """Checks a file, and yields facts about its audio, and its tags.

        The file is stored as an original. After the block it is removed, unless the block has added a track with it.

        Raises:
            InvalidInputError, LimitExceededError: as for `upload`.
        """
        async with self._drafted(chunks, stored=stored) as (draft, digest, size):
            await expect_room(size)
            facts, tags = await self.inspector.check(user_id, draft, digest, ignore_progress)
            await expect_room(facts.size_bytes or size)
            async with self._originals.keeping(copies_of(draft, facts)):
                yield facts, tags

    @asynccontextmanager
    async def checked_stem(
        self, user_id: str, chunks: AsyncIterator[bytes]
    ) -> AsyncIterator[tuple[AudioFacts, dict[str, str]]]:
        """Checks the file of a stem like `checked`, and yields facts and the keys `audio_key` and `peaks_key`.

        Raises:
            InvalidInputError, LimitExceededError: as for `upload`.
        """
        async with self._drafted(chunks) as (draft, digest, _size):
            facts, _tags = await self.inspector.check(user_id, draft, digest, ignore_progress)
            # FLAC files are converted, too: readers trust objects below stems/, so all of them are made here.
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
        """Writes a draft that exists until the end of the block. Yields its key, SHA-256 in hex, and size in bytes."""
        draft = f"uploads/{uuid.uuid4().hex}"
        try:
            digest, size = await self._drafts.put(draft, chunks, stored=stored)
            yield draft, digest, size
        finally:
            await asyncio.shield(self._originals.forget_draft(draft))
