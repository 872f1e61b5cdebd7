"""The servicers of a library whose separation and analysis services are stand-ins."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from services.common.rpc.draining import Draining
from services.download.config import DownloadSettings
from services.download.fetching.lookups import Lookups
from services.download.library import Library
from services.download.servicers import Servicers
from services.download.tracks.conversions import Conversions
from services.download.uploads.uploads import Uploads
from tests.download.conftest import RunningLibrary


class Choices:
    """Accepts every name of a model or backend."""

    def __init__(self) -> None:
        self.stems: dict[str, Any] = {}

    async def check(self, _plan: Any) -> None:
        pass


@asynccontextmanager
async def running_servicers(library: RunningLibrary, settings: DownloadSettings) -> AsyncIterator[Servicers]:
    lookups = Lookups(settings, library.tracks.database)
    choices: Any = Choices()
    unused: Any = None
    parts = Library(
        settings=settings,
        objects=library.objects,
        tracks=library.tracks,
        user_tracks=library.user_tracks,
        playlists=unused,
        usage=library.usage,
        trash=library.trash,
        acquirer=library.acquirer,
        uploads=Uploads(library.tracks.database, library.objects, timedelta(days=1), library.usage.reservations),
        lookups=lookups,
        conversions=Conversions(library.objects, settings.download.conversion_bytes),
        importer=unused,
        choices=choices,
        pipeline=library.pipeline,
        queue=library.jobs,
    )
    try:
        yield Servicers(parts, Draining())
    finally:
        await lookups.close()
