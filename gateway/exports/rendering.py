"""Sound for exports is made in a child process, one file at a time, and never in the gateway's own.

So the event loop stays awake, and FFmpeg's decoders see users' files where no token is.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from gateway.config import GatewaySettings
from gateway.exports.registry import EXPORTS
from services.common.engine import Engine, Report
from services.common.errors import UnavailableError


class RenderWork:
    """In the child: makes the file of an export."""

    def __init__(self, settings: GatewaySettings) -> None:
        from services.common import audio  # with PyAV and NumPy, which the gateway's own process does without

        self._objects = settings.object_store()
        self._sandbox = audio.Sandbox(**settings.decoder.model_dump())

    def __call__(self, task: dict[str, Any], report: Report) -> dict[str, Any]:
        """Has `export` make the file `path` from the objects `keys` with `parameters`."""
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
    """Has files made.

    Args:
        settings: of the gateway.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self._engine = Engine("gateway-exports", RenderWork, settings, settings.log)
        self._seconds = settings.gateway.export_seconds

    @contextlib.asynccontextmanager
    async def rendered(self, export: str, keys: Sequence[str], parameters: dict[str, Any]) -> AsyncIterator[Path]:
        """The file of an export; it goes when the context ends.

        Args:
            export: its name.
            keys: of the objects that it is made of.
            parameters: of its `Rendering`.

        Raises:
            StemTubeError: it cannot be made.
            UnavailableError: it was not made in time (reason EXPORT_TIMEOUT).
        """
        with tempfile.TemporaryDirectory(prefix="stemtube-export-") as folder:
            path = Path(folder) / "export"
            task = {"export": export, "keys": list(keys), "parameters": parameters, "path": str(path)}
            try:
                async with asyncio.timeout(self._seconds):
                    await self._engine.run(task, lambda *_progress, **_detail: None)
            except TimeoutError:
                raise UnavailableError(
                    "There is too much to do now to make this in time; try again.", "EXPORT_TIMEOUT"
                ) from None
            yield path

    async def close(self) -> None:
        """Ends the child."""
        await self._engine.close()
