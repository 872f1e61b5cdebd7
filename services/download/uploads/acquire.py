"""How audio gets into the library: uploads and links, checked by a full decode before a track counts as there."""

import asyncio
import hashlib
import shutil
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from services.common.compute.engine import Engine
from services.common.compute.engine_pool import EnginePool, default_children
from services.common.compute.fair_limiter import FairLimiter
from services.common.errors import (
    NotFoundError,
    StemTubeError,
)
from services.common.jobs.retry import TRANSIENT
from services.common.storage.objects import ObjectStore
from services.download.config import DownloadSettings
from services.download.fetching.cookies import CookieRules
from services.download.fetching.fetcher import FetchWork
from services.download.fetching.pace import moving
from services.download.fetching.pictures import picture_name
from services.download.fetching.turns import FetchTurns, Turn
from services.download.locks import Locks
from services.download.tables import Track
from services.download.tracks.repository import AudioFacts, Library, SongFacts
from services.download.upkeep.object_states import ObjectStates
from services.download.upkeep.scrub import ORIGINAL, is_whole
from services.download.uploads.drafts import Drafts
from services.download.uploads.inspection import FileWork

log = structlog.get_logger(__name__)

OnStage = Callable[..., None]
OnWait = Callable[[], None]
ExpectRoom = Callable[[int], Awaitable[None]]
FETCHED = 0.8
IDLE_SECONDS = 120.0
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


class Acquirer:
    """Takes bytes or a link to a checked original in the object store.

    Originals are named after their content, so that equal files are one object and equal work is recognised.
    """

    def __init__(self, settings: DownloadSettings, objects: ObjectStore, library: Library) -> None:
        self._settings = settings
        self._objects = objects
        self._library = library
        self._states = ObjectStates(library.database)
        self._files = files_pool(settings)
        self._converting = Locks()
        section = settings.download
        self._turns = FetchTurns(section.fetches, section.fetches_per_user)
        self._cookies = CookieRules(section)
        self._fetching = Locks()
        self._drafts = Drafts(objects, settings.limit.max_bytes)
        self._partial = tempfile.TemporaryDirectory()

    async def close(self) -> None:
        """Ends the child processes."""
        await self._files.close()
        await asyncio.to_thread(self._partial.cleanup)

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
            facts, tags = await self._check(user_id, draft, digest, _tell_nobody)
            await expect_room(facts.size_bytes or size)
            async with self._keeping(_copies(draft, facts)):
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
            facts, _tags = await self._check(user_id, draft, digest, _tell_nobody)
            # A FLAC too is written anew: so all that lies below stems/ was made here, and its readers may trust it.
            flac = _flac_of(draft)
            await self.convert(user_id, draft, "flac", flac)
            key = f"stems/imported/{digest}.flac"
            keys = {"audio_key": key, "peaks_key": f"{key}.peaks"}
            async with self._keeping({key: flac, keys["peaks_key"]: _peaks_of(draft)}):
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
            await asyncio.shield(self._forget(draft))

    async def acquire(
        self,
        track_id: str,
        requester: Requester,
        on_stage: OnStage,
        on_wait: OnWait,
        expect_room: ExpectRoom,
        reservation_id: str = "",
    ) -> str:
        """A track's audio; a link's is fetched if it has not arrived yet, once for all who wait for it.

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
        track = await self._track(track_id)
        if track.audio_key:
            return track.audio_key
        # The turn first: who waits for one must not keep others from fetching the same link in theirs.
        async with self._turns.turn(requester.user, requester.lane, on_wait) as turn:
            on_stage("fetching", 0.0)
            async with self._fetching.of(track_id):
                track = await self._track(track_id)
                return track.audio_key or await self._fetch(
                    track, requester, turn, on_stage, expect_room, reservation_id
                )

    async def _track(self, track_id: str) -> Track:
        data = await self._library.track(track_id)
        if data is None:
            raise NotFoundError("The track was deleted.", "NO_SUCH_TRACK")
        return data.track

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
            # A link does not tell how much there is behind it.
            await expect_room((await asyncio.to_thread(path.stat)).st_size)
            digest = await asyncio.to_thread(_file_digest, path)
            await self._objects.put(draft, path)
            facts, tags = await self._check(
                requester.user,
                draft,
                digest,
                lambda stage, done: on_stage(stage, FETCHED + (1 - FETCHED) * done),
                cover,
                patient=True,
            )
            await expect_room(facts.size_bytes or 0)
            song = SongFacts(
                found["title"] or tags["title"] or url,
                found["artist"] or tags["artist"],
                found["source"],
                found["license"],
            )
            async with self._keeping(_copies(draft, facts)):
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
            await asyncio.shield(self._forget(draft))
        await self.forget_partial(track_id)
        # Not so if another process has fetched it too and was faster, or if the track was deleted.
        return facts.audio_key if is_first else (await self._track(track_id)).audio_key

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

    async def convert(
        self, user_id: str, key: str, audio_format: str, to: str, wait_seconds: float | None = None
    ) -> None:
        """Makes an object in another format, as another object, unless that is there already.

        Args:
            user_id: for whom.
            key: of the object.
            audio_format: which one.
            to: the other object's key.
            wait_seconds: longest time to wait for a turn; None: as long as it takes.

        Raises:
            StemTubeError: it cannot be read.
            LimitExceededError: too much of the user's waits already, or for too long (reason TOO_MANY_WAITING).
        """
        if await self._objects.exists(to):
            return
        task = {"do": "transcode", "key": key, "format": audio_format, "to": to}
        # A lock for each user: nobody waits for another one's conversion, which may be held up; both give the same.
        one_at_a_time = self._converting.of(f"{user_id} {to}")
        async with one_at_a_time, self._files.engine(user_id, wait_seconds=wait_seconds) as engine:
            if not await self._objects.exists(to):
                await engine.run(task, _tell_nobody)

    @asynccontextmanager
    async def _keeping(self, copies: dict[str, str]) -> AsyncIterator[None]:
        """Keeps drafts under their names (name to draft) for the track that the block gives them to."""
        made: set[str] = set()
        try:
            for key, source in copies.items():
                if not await self._is_good(key):
                    await self._objects.copy(source, key)
                    made.add(key)
            yield
        finally:
            await asyncio.shield(self._settle(copies, made))

    async def _is_good(self, key: str) -> bool:
        """Whether an object is there, an original with the bytes that it should have."""
        if not await self._objects.exists(key):
            return False
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

    async def _forget(self, draft: str) -> None:
        for key in (draft, _peaks_of(draft), _cover_of(draft), _flac_of(draft)):
            await self._objects.delete(key)

    async def _check(
        self,
        user_id: str,
        draft: str,
        digest: str,
        on_stage: OnStage,
        cover: Path | None = None,
        *,
        patient: bool = False,
    ) -> tuple[AudioFacts, dict[str, str]]:
        """Checks a draft by decoding all of it, and makes its peaks and its cover, unless there is one already.

        Stages are `checking`, and `waiting` while other files are checked. A `patient` check is never refused.
        """
        task = {"do": "inspect", "key": draft, "peaks_key": _peaks_of(draft), "cover_key": _cover_of(draft)}
        turn = self._files.engine(user_id, patient=patient, on_waiting=lambda: on_stage("waiting", 0.0))
        async with turn as engine:
            found: dict[str, Any] = await engine.run(task, lambda stage, fraction, **_: on_stage(stage, fraction))
        picture = found["cover"]
        if cover is not None:
            picture = await asyncio.to_thread(_picture_name, cover)
            await self._objects.put(_cover_of(draft), cover)
        kept = (draft, _peaks_of(draft), *((_cover_of(draft),) if picture else ()))
        facts = AudioFacts(
            audio_key=f"originals/{digest}",
            peaks_key=f"peaks/{digest}",
            cover_key=f"covers/{picture}" if picture else "",
            content_hash=found["content_hash"],
            suffix=found["container"],
            duration_seconds=found["duration_seconds"],
            sample_rate_hz=found["sample_rate_hz"],
            channels=found["channels"],
            loudness_lufs=found["loudness_lufs"],
            size_bytes=sum([(await self._objects.head(key)).size for key in kept]),
        )
        return facts, {"title": found["title"], "artist": found["artist"]}


def files_pool(settings: DownloadSettings) -> EnginePool:
    """The children that check and convert files."""
    section = settings.download
    limiter = FairLimiter("files", section.file_children or default_children(), section.file_children_per_user)
    return EnginePool(lambda: Engine("download-files", FileWork, settings, settings.log, IDLE_SECONDS), limiter)


def _tell_nobody(*_arguments: Any, **_detail: Any) -> None:
    """For work whose progress is not shown."""


def _copies(draft: str, facts: AudioFacts) -> dict[str, str]:
    """Where an original, its peaks and its cover belong, and their drafts."""
    copies = {facts.audio_key: draft, facts.peaks_key: _peaks_of(draft)}
    return copies | {facts.cover_key: _cover_of(draft)} if facts.cover_key else copies


def _peaks_of(draft: str) -> str:
    return f"{draft}-peaks"


def _cover_of(draft: str) -> str:
    return f"{draft}-cover"


def _flac_of(draft: str) -> str:
    return f"{draft}-flac"


def _picture_name(path: Path) -> str:
    return picture_name(path.read_bytes())


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
