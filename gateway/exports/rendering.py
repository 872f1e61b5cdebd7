"""Makes the sound of exports in child processes, one file at a time in each.

This keeps the event loop responsive, and FFmpeg decodes users' files in a process without tokens.
"""

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.config import GatewaySettings
from gateway.exports.registry import EXPORTS
from services.common.compute.engine import Engine, Report
from services.common.compute.engine_pool import EnginePool
from services.common.compute.fair_limiter import TOO_MANY_WAITING, FairLimiter, Place
from services.common.compute.joint_work import JointWork
from services.common.errors import LimitExceededError, UnavailableError
from services.common.storage.marked_store import open_marked_store

IDLE_SECONDS = 120.0
FILES, FILES_PER_USER = 12, 4
"""Most files that are being made or sent, which limits their disk space: a client may read slowly."""
WAITING_PER_USER = 8
FILE = "export"
WAIT_SECONDS = 60.0
"""Longest time to wait for a turn; after that the client gets 429 with Retry-After."""
RETRY_AFTER_SECONDS = 10

_Folder = tempfile.TemporaryDirectory[str]


@dataclass(frozen=True, slots=True)
class RenderedFile:
    """A file that is kept as long as its place is held."""

    path: Path
    place: Place


class RenderWork:
    """Makes the files of exports in the child."""

    def __init__(self, settings: GatewaySettings) -> None:
        from services.common import audio  # imports PyAV and NumPy, which the gateway's process does not need

        self._objects = open_marked_store(settings)
        self._sandbox = audio.Sandbox(**settings.decoder.model_dump())

    def __call__(self, task: dict[str, Any], report: Report) -> dict[str, Any]:
        """Makes the file `path` of an `export` from the objects `keys` with `parameters`."""
        render = EXPORTS[task["export"]].render
        assert render is not None
        with contextlib.ExitStack() as resources:
            sources = [resources.enter_context(self._objects.open(key)) for key in task["keys"]]
            render(
                sources,
                task["parameters"],
                Path(task["path"]),
                lambda done: report("rendering", done),
                self._sandbox,
            )
        return {}


class Renderer:
    """Distributes the making of files among child processes.

    Args:
        settings: of the gateway.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        section = settings.gateway
        self._files = FairLimiter("export files", FILES, FILES_PER_USER, waiting_per_user=WAITING_PER_USER)
        self._children = EnginePool(
            lambda: Engine("gateway-exports", RenderWork, settings, settings.log, IDLE_SECONDS),
            FairLimiter("exports", section.export_children, section.export_children_per_user),
        )
        self._seconds = settings.gateway.export_seconds
        self._rendering: JointWork[_Folder] = JointWork(lambda folder: folder.cleanup())

    @contextlib.asynccontextmanager
    async def rendered(
        self, user: str, export: str, keys: Sequence[str], parameters: dict[str, Any]
    ) -> AsyncIterator[RenderedFile]:
        """Makes the file of an export; equal requests share it. It is deleted when the last context ends.

        If a user without a file waits, and no other user has more files than this one, a file that is still being made
        is given up. One that is complete has a `place` that its caller can have recalled.

        Args:
            user: the user whose turn is used.
            export: name of the export.
            keys: of the objects that it needs.
            parameters: of its `Rendering`.

        Raises:
            StemTubeError: the file cannot be made.
            LimitExceededError: too many requests wait, this one waited too long, or its place was needed for another
                user (reason TOO_MANY_WAITING).
            UnavailableError: the file was not made in time (reason EXPORT_TIMEOUT).
        """
        wanted = {"export": export, "keys": list(keys), "parameters": parameters}
        rendering = self._rendering.result(
            json.dumps(wanted, sort_keys=True),
            lambda: self._children.engine(user, patient=True),
            lambda engine: self._make(engine, wanted),
        )
        async with self._files.place(user, wait_seconds=WAIT_SECONDS) as place, contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(None) as limit:
                    with place.recallable(lambda: limit.reschedule(asyncio.get_running_loop().time())):
                        folder = await stack.enter_async_context(rendering)
            except TimeoutError:
                raise LimitExceededError(
                    f"Other users wait for an export; come back in {RETRY_AFTER_SECONDS} s.",
                    TOO_MANY_WAITING,
                    retry_after_seconds=str(RETRY_AFTER_SECONDS),
                ) from None
            yield RenderedFile(Path(folder.name) / FILE, place)

    async def _make(self, engine: Engine, wanted: dict[str, Any]) -> _Folder:
        folder = tempfile.TemporaryDirectory(prefix="stemtube-export-")
        try:
            async with asyncio.timeout(self._seconds):
                await engine.run(wanted | {"path": str(Path(folder.name) / FILE)}, lambda *_progress, **_detail: None)
        except TimeoutError:
            folder.cleanup()
            raise UnavailableError("This takes too long to make.", "EXPORT_TIMEOUT") from None
        except BaseException:
            folder.cleanup()
            raise
        return folder

    async def close(self) -> None:
        """Ends the children."""
        await self._children.close()
