"""Makes missing peaks and pictures again from the sound that they belong to."""

import uuid
from collections.abc import Collection

import structlog

from services.common.errors import StemTubeError
from services.common.storage.objects import ObjectStore
from services.download.tracks.repository import UPLOADS, TrackRepository
from services.download.uploads.inspection import Inspector
from services.download.uploads.originals import cover_of, peaks_of

log = structlog.get_logger(__name__)


class Remaker:
    """Makes peaks and pictures again.

    Args:
        objects: the object store.
        tracks: know which objects they need.
        inspector: decodes files.
    """

    def __init__(self, objects: ObjectStore, tracks: TrackRepository, inspector: Inspector) -> None:
        self._objects = objects
        self._tracks = tracks
        self._inspector = inspector

    async def remake(self, source: str, wanted: Collection[str]) -> set[str]:
        """Makes objects that belong to an original or a stem.

        Args:
            source: key of the original or stem.
            wanted: keys of its peaks and its picture that do not exist.

        Returns:
            Those of these keys that exist now. A picture is found only if it is in the file itself.
        """
        draft = f"{UPLOADS}/{uuid.uuid4().hex}"
        try:
            picture = await self._inspector.remake(source, draft)
            made = {key: cover_of(draft) if key.startswith("covers/") else peaks_of(draft) for key in wanted}
            return {
                key
                for key, copy in made.items()
                if copy == peaks_of(draft) or key == f"covers/{picture}"
                if await self._keep(key, copy)
            }
        except StemTubeError as error:
            log.warning("peaks and picture cannot be made again", key=source, reason=error.reason)
            return set()
        finally:
            for copy in (peaks_of(draft), cover_of(draft)):
                await self._objects.delete(copy)

    async def _keep(self, key: str, copy: str) -> bool:
        """Copies an object to its final key. Returns whether a track needs it."""
        async with self._tracks.locked_object(key) as is_used:
            if is_used and not await self._objects.exists(key):
                await self._objects.copy(copy, key)
        return is_used
