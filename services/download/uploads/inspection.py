"""Checks files by decoding them in full, and converts them, in child processes that users share fairly."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from services.common.compute.engine import Engine
from services.common.compute.engine_pool import EnginePool, default_children
from services.common.compute.fair_limiter import FairLimiter
from services.common.compute.joint_work import JointWork
from services.common.errors import NotFoundError
from services.common.storage.object_info import ObjectInfo
from services.common.storage.objects import ObjectStore
from services.download.config import DownloadSettings
from services.download.fetching.pictures import picture_name
from services.download.tracks.repository import AudioFacts
from services.download.uploads.file_work import FileWork
from services.download.uploads.originals import cover_of, peaks_of

OnStage = Callable[..., None]
IDLE_SECONDS = 120.0
# The user whose turns the upkeep uses; no account has it.
UPKEEP = ""


class Inspector:
    """Checks and converts objects of the store.

    Args:
        settings: the process's settings.
        objects: the object store.
    """

    def __init__(self, settings: DownloadSettings, objects: ObjectStore) -> None:
        self._objects = objects
        self._files = files_pool(settings)
        self._checking: JointWork[dict[str, Any]] = JointWork()
        self._converting: JointWork[None] = JointWork()

    async def close(self) -> None:
        """Ends the child processes."""
        await self._files.close()

    async def check(
        self,
        user_id: str,
        draft: str,
        digest: str,
        on_stage: OnStage,
        cover: Path | None = None,
        *,
        patient: bool = False,
        path: Path | None = None,
    ) -> tuple[AudioFacts, dict[str, str]]:
        """Checks a draft by decoding all of it, once for all callers, and makes its peaks and, if none is given, its
        cover.

        Args:
            user_id: the user whose turn is used.
            draft: key of the draft.
            digest: SHA-256 of its bytes, in hex.
            on_stage: called with the stage (`checking`, or `waiting` while other files are checked) and the fraction
                done, in [0, 1].
            cover: file of a cover to store instead of the one in the draft.
            patient: whether to wait for a turn even if too many files wait.
            path: a file with the same bytes, to be read instead of the draft.

        Returns:
            Facts about the audio, and the tags `title` and `artist`.

        Raises:
            StemTubeError: the file is not usable as a song.
            LimitExceededError: too many of the user's files wait (reason TOO_MANY_WAITING).
        """
        task = _inspection(draft, draft, path)

        async def decode(engine: Engine) -> dict[str, Any]:
            return await engine.run(task, lambda stage, fraction, **_: on_stage(stage, fraction))

        checking = self._checking.result(
            draft,
            lambda: self._files.engine(user_id, patient=patient, on_waiting=lambda: on_stage("waiting", 0.0)),
            decode,
        )
        async with checking as found:
            pass
        picture = found["cover"]
        if cover is not None:
            picture = await asyncio.to_thread(_picture_name, cover)
            await self._objects.put(cover_of(draft), cover)
        kept = (draft, peaks_of(draft), *((cover_of(draft),) if picture else ()))
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
            file_notes=found["notes"] or None,
        )
        return facts, {"title": found["title"], "artist": found["artist"]}

    async def remake(self, key: str, draft: str) -> str:
        """Decodes an original or a stem, and makes peaks and cover of it like those of a draft.

        Args:
            key: key of the object.
            draft: the draft whose peaks and cover they become.

        Returns:
            The name of the cover; empty if there is none in the object.

        Raises:
            StemTubeError: the object cannot be read.
        """
        async with self._files.engine(UPKEEP, patient=True) as engine:
            found = await engine.run(_inspection(key, draft), ignore_progress)
        name: str = found["cover"]
        return name

    async def convert(
        self, user_id: str, key: str, audio_format: str, to: str, wait_seconds: float | None = None
    ) -> None:
        """Converts an object to another format, unless the result exists already. Equal calls share one conversion.

        Args:
            user_id: the user whose turn is used.
            key: key of the object.
            audio_format: the wanted format.
            to: key of the result.
            wait_seconds: longest time to wait for a turn; None for no limit.

        Raises:
            StemTubeError: the object cannot be read.
            LimitExceededError: too many of the user's files wait, or one waits too long (reason TOO_MANY_WAITING).
        """
        if await self._objects.exists(to):
            return
        task = {"do": "transcode", "key": key, "format": audio_format, "to": to}

        async def make(engine: Engine) -> None:
            while not await self._objects.exists(to):
                source = await self._objects.head(key)
                await engine.run(task, ignore_progress)
                if not await self._is_current(source):
                    # A damaged original was repaired meanwhile, and its copies removed, before this one was stored.
                    await self._objects.delete(to)

        async with self._converting.result(to, lambda: self._files.engine(user_id, wait_seconds=wait_seconds), make):
            pass

    async def _is_current(self, source: ObjectInfo) -> bool:
        """Whether an object has not been replaced or removed."""
        try:
            return await self._objects.head(source.key) == source
        except NotFoundError:
            return False


def files_pool(settings: DownloadSettings) -> EnginePool:
    """Makes the pool of child processes that check and convert files."""
    section = settings.download
    limiter = FairLimiter("files", section.file_children or default_children(), section.file_children_per_user)
    return EnginePool(lambda: Engine("download-files", FileWork, settings, settings.log, IDLE_SECONDS), limiter)


def _inspection(key: str, draft: str, path: Path | None = None) -> dict[str, str]:
    """The task of inspecting an object, or a file with the same bytes, with peaks and cover of a draft as results."""
    return {
        "do": "inspect",
        "key": key,
        "path": str(path or ""),
        "peaks_key": peaks_of(draft),
        "cover_key": cover_of(draft),
    }


def ignore_progress(*_arguments: Any, **_detail: Any) -> None:
    """Ignores the progress of work."""


def _picture_name(path: Path) -> str:
    return picture_name(path.read_bytes())
