"""Fetches the audio of links, in turns, and goes on where an attempt broke off."""

import asyncio
import shutil
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.common.compute.engine import Engine
from services.common.errors import NotFoundError, StemTubeError
from services.common.jobs.retry import TRANSIENT
from services.common.storage.pieces import pieces_of_file
from services.download.config import DownloadSettings
from services.download.fetching.cookies import CookieRules
from services.download.fetching.fetcher import FetchWork
from services.download.fetching.pace import moving
from services.download.fetching.turns import FetchTurns, Turn
from services.download.locks import Locks
from services.download.tables import Track
from services.download.tracks.repository import SongFacts, TrackRepository
from services.download.uploads.drafts import Drafts
from services.download.uploads.inspection import Inspector, OnStage
from services.download.uploads.originals import Originals, copies_of

ExpectRoom = Callable[[int], Awaitable[None]]
OnWait = Callable[[], None]
FETCHED = 0.8
# A fetch that is tried again finds what was there; after this time nobody comes for it, or another process has.
PARTIAL_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Requester:
    """Who wants a link fetched.

    Args:
        user: the id.
        lane: 0 where somebody waits for it, 1 for batch work.
        use_cookies: with the operator's cookies; see `services.download.fetching.cookies`.
    """

    user: str
    lane: int = 0
    use_cookies: bool = False


class LinkFetcher:
    """Takes links to checked originals in the object store.

    Args:
        settings: of the process.
        drafts: writes what was fetched into the object store.
        library: the tracks.
        inspector: checks what was fetched.
        originals: keeps it.
    """

    def __init__(
        self,
        settings: DownloadSettings,
        drafts: Drafts,
        library: TrackRepository,
        inspector: Inspector,
        originals: Originals,
    ) -> None:
        self._settings = settings
        self._drafts = drafts
        self._library = library
        self._inspector = inspector
        self._originals = originals
        section = settings.download
        self._turns = FetchTurns(section.fetches, section.fetches_per_user)
        self._cookies = CookieRules(section)
        self._fetching = Locks()
        self._partial = tempfile.TemporaryDirectory()

    async def close(self) -> None:
        """Removes what was fetched in part."""
        await asyncio.to_thread(self._partial.cleanup)

    async def acquire(
        self,
        track_id: str,
        requester: Requester,
        on_stage: OnStage,
        on_wait: OnWait,
        expect_room: ExpectRoom,
        reservation_id: str = "",
    ) -> str:
        """A track's audio; a link's is fetched if it has not arrived yet, or is faulty, once for all who wait for it.

        Args:
            track_id: whose it is.
            requester: in whose turn it is fetched.
            on_stage: called with what is being done and how much of it is done.
            on_wait: called if others are fetched first.
            expect_room: called with the bytes of what was fetched; raises if there is no room for them.
            reservation_id: of the room, which the track takes.

        Returns:
            The key of the original.

        Raises:
            StemTubeError: it cannot be fetched, or is not usable as a song.
            LimitExceededError: there is no room for it (reason QUOTA_EXCEEDED).
            UnavailableError: it took too long, or brought next to nothing (reason FETCH_TIMEOUT, FETCH_STALLED).
            NotFoundError: the track was deleted (reason NO_SUCH_TRACK).
        """
        track, is_sound = await self._look(track_id)
        if is_sound:
            return track.audio_key
        # The turn first: who waits for one must not keep others from fetching the same link in theirs.
        async with self._turns.turn(requester.user, requester.lane, on_wait) as turn:
            on_stage("fetching", 0.0)
            async with self._fetching.of(track_id):
                track, is_sound = await self._look(track_id)
                if is_sound:
                    return track.audio_key
                return await self._fetch(track, requester, turn, on_stage, expect_room, reservation_id)

    async def _look(self, track_id: str) -> tuple[Track, bool]:
        """A track, and whether its audio is there. A link's is not if it is known to be missing or damaged."""
        data = await self._library.track(track_id)
        if data is None:
            raise NotFoundError("The track was deleted.", "NO_SUCH_TRACK")
        key = data.track.audio_key
        return data.track, bool(key) and not (data.track.url and key in data.faults)

    async def _fetch(
        self,
        track: Track,
        requester: Requester,
        turn: Turn,
        on_stage: OnStage,
        expect_room: ExpectRoom,
        reservation_id: str,
    ) -> str:
        track_id, url = track.id, track.url
        # Not for a track that others have, too.
        use_cookies = requester.use_cookies and track.private_url is not None and self._cookies.allow("fetches", url)
        engine = Engine("download-fetch", FetchWork, self._settings, self._settings.log)
        draft = f"uploads/{uuid.uuid4().hex}"
        # Where a transient error breaks off, the next attempt goes on.
        folder = Path(self._partial.name) / track_id
        await asyncio.to_thread(folder.mkdir, exist_ok=True)
        try:
            section = self._settings.download
            async with moving(section.fetch_seconds, section.fetch_stall_seconds) as bytes_are_there:

                def tell(stage: str, fraction: float, *, bytes_done: int = 0, **detail: Any) -> None:
                    bytes_are_there(bytes_done)
                    on_stage(stage, FETCHED * fraction, **detail)

                found = await engine.run({"url": url, "folder": str(folder), "use_cookies": use_cookies}, tell)
            await engine.close()
            turn.end()
            path, cover = Path(found["path"]), Path(found["cover"]) if found["cover"] else None
            # A link does not tell how much there is behind it. What replaces a faulty object is counted already.
            if not track.audio_key:
                await expect_room((await asyncio.to_thread(path.stat)).st_size)
            digest, _size = await self._drafts.put(draft, pieces_of_file(path), stored=True)
            facts, tags = await self._inspector.check(
                requester.user,
                draft,
                digest,
                lambda stage, done: on_stage(stage, FETCHED + (1 - FETCHED) * done),
                cover,
                patient=True,
                path=path,
            )
            if not track.audio_key:
                await expect_room(facts.size_bytes or 0)
            song = SongFacts(
                found["title"] or tags["title"] or url,
                found["artist"] or tags["artist"],
                found["source"],
                found["license"],
            )
            async with self._originals.keeping(copies_of(draft, facts)):
                is_first = await self._library.set_audio(track_id, song, facts, reservation_id=reservation_id)
        except StemTubeError as error:
            if error.code not in TRANSIENT:
                await self.forget_partial(track_id)
            raise
        except asyncio.CancelledError:
            await asyncio.shield(self.forget_partial(track_id))
            raise
        finally:
            await asyncio.shield(engine.close())
            await asyncio.shield(self._originals.forget_draft(draft))
        await self.forget_partial(track_id)
        # Not so if another process has fetched it too and was faster, or if the track was deleted.
        return facts.audio_key if is_first else (await self._look(track_id))[0].audio_key

    async def forget_partial(self, track_id: str) -> None:
        """Removes what has been fetched of a track so far."""
        await asyncio.to_thread(shutil.rmtree, Path(self._partial.name) / track_id, ignore_errors=True)

    async def forget_idle_partial(self, track_id: str) -> None:
        """Removes what has been fetched of a track so far, unless it is being fetched now."""
        lock = self._fetching.of(track_id)
        if not lock.locked():
            async with lock:
                await self.forget_partial(track_id)

    async def forget_old_partials(self) -> None:
        """Removes what has been fetched of tracks to which nobody has come back."""
        old = time.time() - PARTIAL_SECONDS
        for folder in await asyncio.to_thread(lambda: list(Path(self._partial.name).iterdir())):
            if (await asyncio.to_thread(folder.stat)).st_mtime < old:
                await self.forget_idle_partial(folder.name)
