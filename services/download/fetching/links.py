"""Fetches the audio of links. Users take turns, and an interrupted fetch is resumed."""

import asyncio
import contextlib
import shutil
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.common.compute.engine import Engine
from services.common.errors import NotFoundError, StemTubeError, StoppedError
from services.common.jobs.retry import TRANSIENT
from services.common.storage.pieces import pieces_of_file
from services.download.config import DownloadSettings
from services.download.fetching.cookies import CookieRules
from services.download.fetching.fetcher import FetchWork
from services.download.fetching.pace import fetch_time_limits
from services.download.fetching.turns import FetchTurns, Turn
from services.download.locks import Locks
from services.download.tables import Track
from services.download.tracks.repository import SongFacts, TrackRepository
from services.download.uploads.drafts import Drafts
from services.download.uploads.inspection import Inspector, OnStage
from services.download.uploads.originals import Originals, copies_of

ExpectRoom = Callable[[int], Awaitable[None]]
OnWait = Callable[[], None]
# The share of fetching in the progress; checking has the rest.
FETCH_SHARE = 0.8
# A retry resumes a partial download. After this time no retry comes, or another process has fetched the link.
PARTIAL_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Requester:
    """The user who asks for a link.

    Args:
        user: the user's id.
        lane: 0 for interactive work, 1 for batch work.
        use_cookies: whether to use the operator's cookies; see `services.download.fetching.cookies`.
    """

    user: str
    lane: int = 0
    use_cookies: bool = False


@dataclass(slots=True)
class _Fetched:
    """A link's file, for all jobs that want it checked and kept.

    Attributes:
        found: the child's answer, see `FetchWork`.
        draft: key of its copy in the object store.
        digest: SHA-256 of its bytes, in hex.
        listeners: one for each job; called with the progress of the check.
    """

    found: dict[str, str]
    draft: str
    digest: str
    listeners: list[OnStage] = field(default_factory=list)

    @property
    def cover(self) -> Path | None:
        return Path(self.found["cover"]) if self.found["cover"] else None

    def tell(self, stage: str, done: float) -> None:
        for listener in tuple(self.listeners):
            # A job that was stopped ends by itself; the others continue.
            with contextlib.suppress(StoppedError):
                listener(stage, FETCH_SHARE + (1 - FETCH_SHARE) * done)


class LinkFetcher:
    """Fetches links, checks their audio, and stores it as originals.

    Args:
        settings: the process's settings.
        drafts: writes fetched files into the object store.
        tracks: the tracks of all users.
        inspector: checks fetched files.
        originals: stores checked files.
    """

    def __init__(
        self,
        settings: DownloadSettings,
        drafts: Drafts,
        tracks: TrackRepository,
        inspector: Inspector,
        originals: Originals,
    ) -> None:
        self._settings = settings
        self._drafts = drafts
        self._tracks = tracks
        self._inspector = inspector
        self._originals = originals
        section = settings.download
        self._turns = FetchTurns(section.fetches, section.fetches_per_user)
        self._cookies = CookieRules(section)
        self._fetching = Locks()
        self._fetched: dict[str, _Fetched] = {}
        self._partial = tempfile.TemporaryDirectory()

    async def close(self) -> None:
        """Removes partial downloads."""
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
        """Returns the key of a track's original, and fetches the link first if necessary.

        A link is fetched if its audio has not arrived yet, or is missing or damaged. It is fetched once for all who
        wait for it.

        Args:
            track_id: the track's id.
            requester: the user whose turn is used.
            on_stage: called with the name of the current step and the fraction done, in [0, 1].
            on_wait: called if other links are fetched first.
            expect_room: called with the size of the fetched file in bytes; raises if there is no room for it.
            reservation_id: the reservation of this room; it is released when the track has its audio.

        Raises:
            StemTubeError: the link cannot be fetched, or is not usable as a song.
            LimitExceededError: there is no room for it (reason QUOTA_EXCEEDED).
            UnavailableError: fetching took too long, or stalled (reason FETCH_TIMEOUT, FETCH_STALLED).
            NotFoundError: the track was deleted (reason NO_SUCH_TRACK).
        """
        track, is_sound = await self._look(track_id)
        if is_sound:
            return track.audio_key
        # The turn comes before the lock: a user who waits for a turn must not block others who want the same link.
        async with self._turns.turn(requester.user, requester.lane, on_wait) as turn:
            on_stage("fetching", 0.0)
            async with self._fetching.of(track_id):
                track, is_sound = await self._look(track_id)
                if is_sound:
                    return track.audio_key
                if track_id not in self._fetched:
                    self._fetched[track_id] = await self._fetch(track, requester, turn, on_stage, expect_room)
                fetched = self._fetched[track_id]
                fetched.listeners.append(on_stage)
        error: BaseException | None = None
        try:
            return await self._keep(track_id, fetched, requester.user, expect_room, reservation_id)
        except BaseException as raised:
            error = raised
            raise
        finally:
            await asyncio.shield(self._leave(track_id, fetched, on_stage, error))

    async def _look(self, track_id: str) -> tuple[Track, bool]:
        """Returns a track, and whether its audio can be used. That of a link cannot if it is missing or damaged."""
        data = await self._tracks.track(track_id)
        if data is None:
            raise NotFoundError("The track was deleted.", "NO_SUCH_TRACK")
        key = data.track.audio_key
        return data.track, bool(key) and not (data.track.url and key in data.faults)

    async def _fetch(
        self, track: Track, requester: Requester, turn: Turn, on_stage: OnStage, expect_room: ExpectRoom
    ) -> _Fetched:
        """Fetches a track's link; its turn ends when the file is there."""
        url = track.url
        # Not for a track that other users have too.
        use_cookies = requester.use_cookies and track.private_url is not None and self._cookies.allow("fetches", url)
        engine = Engine("download-fetch", FetchWork, self._settings, self._settings.log)
        draft = f"uploads/{uuid.uuid4().hex}"
        # After a transient error, the next attempt continues with the files in this folder.
        folder = Path(self._partial.name) / track.id
        await asyncio.to_thread(folder.mkdir, exist_ok=True)
        try:
            section = self._settings.download
            async with fetch_time_limits(section.fetch_seconds, section.fetch_stall_seconds) as on_bytes:

                def tell(stage: str, fraction: float, *, bytes_done: int = 0, **detail: Any) -> None:
                    on_bytes(bytes_done)
                    on_stage(stage, FETCH_SHARE * fraction, **detail)

                found = await engine.run({"url": url, "folder": str(folder), "use_cookies": use_cookies}, tell)
            await engine.close()
            turn.end()
            path = Path(found["path"])
            # A link does not show the size of its file. A file that replaces a faulty object has been counted already.
            if not track.audio_key:
                await expect_room((await asyncio.to_thread(path.stat)).st_size)
            digest, _size = await self._drafts.put(draft, pieces_of_file(path), stored=True)
        except BaseException as error:
            await asyncio.shield(self._forget(track.id, draft, error))
            raise
        finally:
            await asyncio.shield(engine.close())
        return _Fetched(found, draft, digest)

    async def _keep(
        self, track_id: str, fetched: _Fetched, user: str, expect_room: ExpectRoom, reservation_id: str
    ) -> str:
        """Checks and stores a link's file, in a turn of this user or of another one who wants it."""
        found = fetched.found
        facts, tags = await self._inspector.check(
            user,
            fetched.draft,
            fetched.digest,
            fetched.tell,
            fetched.cover,
            patient=True,
            path=Path(found["path"]),
        )
        async with self._fetching.of(track_id):
            track, is_sound = await self._look(track_id)
            if is_sound:
                return track.audio_key
            if not track.audio_key:
                await expect_room(facts.size_bytes or 0)
            song = SongFacts(
                found["title"] or tags["title"] or track.url,
                found["artist"] or tags["artist"],
                found["source"],
                found["license"],
            )
            async with self._originals.keeping(copies_of(fetched.draft, facts)):
                is_first = await self._tracks.set_audio(track_id, song, facts, reservation_id=reservation_id)
        # It is not the first if another process was faster, or if the track was deleted.
        return facts.audio_key if is_first else (await self._look(track_id))[0].audio_key

    async def _leave(self, track_id: str, fetched: _Fetched, on_stage: OnStage, error: BaseException | None) -> None:
        """Ends a job's use of a link's file, which is removed when no job uses it."""
        async with self._fetching.of(track_id):
            fetched.listeners.remove(on_stage)
            if not fetched.listeners:
                del self._fetched[track_id]
                await self._forget(track_id, fetched.draft, error)

    async def _forget(self, track_id: str, draft: str, error: BaseException | None) -> None:
        """Removes a draft, and the fetched files unless the next attempt continues with them."""
        await self._originals.forget_draft(draft)
        is_final = isinstance(error, StemTubeError) and error.code not in TRANSIENT
        if is_final or not isinstance(error, Exception):
            await self._forget_partial(track_id)

    async def _forget_partial(self, track_id: str) -> None:
        await asyncio.to_thread(shutil.rmtree, Path(self._partial.name) / track_id, ignore_errors=True)

    async def forget_idle_partial(self, track_id: str) -> None:
        """Removes a track's fetched files, unless they are being fetched or checked now."""
        lock = self._fetching.of(track_id)
        if not lock.locked() and track_id not in self._fetched:
            async with lock:
                await self._forget_partial(track_id)

    async def forget_old_partials(self) -> None:
        """Removes partial downloads that no retry has resumed for `PARTIAL_SECONDS`."""
        old = time.time() - PARTIAL_SECONDS
        for folder in await asyncio.to_thread(lambda: list(Path(self._partial.name).iterdir())):
            if (await asyncio.to_thread(folder.stat)).st_mtime < old:
                await self.forget_idle_partial(folder.name)
