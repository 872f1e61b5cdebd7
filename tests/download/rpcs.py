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
from tests.download.conftest import Acquiring


class Choices:
    """Every name of a model or backend is known."""

    def __init__(self) -> None:
        self.stems: dict[str, Any] = {}

    async def check(self, _plan: Any) -> None:
        pass


@asynccontextmanager
async def running_servicers(acquiring: Acquiring, settings: DownloadSettings) -> AsyncIterator[Servicers]:
    lookups = Lookups(settings, acquiring.library.database)
    choices: Any = Choices()
    unused: Any = None
    library = Library(
        settings=settings,
        objects=acquiring.objects,
        tracks=acquiring.library,
        user_tracks=acquiring.user_tracks,
        playlists=unused,
        usage=acquiring.usage,
        trash=acquiring.trash,
        acquirer=acquiring.acquirer,
        uploads=Uploads(acquiring.library.database, acquiring.objects, timedelta(days=1), acquiring.usage.reservations),
        lookups=lookups,
        conversions=Conversions(acquiring.objects, settings.download.conversion_bytes),
        importer=unused,
        choices=choices,
        pipeline=acquiring.pipeline,
        queue=acquiring.jobs,
    )
    try:
        yield Servicers(library, Draining())
    finally:
        await lookups.close()
