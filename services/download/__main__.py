"""Runs the download service, which keeps the library: `python -m services.download`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from datetime import timedelta
from typing import Any

import structlog

from services.common.compute.confinement_check import expect_confinement
from services.common.compute.memory import return_freed_memory
from services.common.errors import UnavailableError
from services.common.process import run
from services.common.rpc.client import open_channel
from services.common.rpc.draining import Draining
from services.common.rpc.runtime import VerifiedCallers, run_with_jobs
from services.common.storage.database import Database, migrate
from services.common.storage.objects import open_store
from services.download.config import DownloadSettings
from services.download.library import open_library
from services.download.servicers import Servicers
from services.download.upkeep.scrub import Scrubber
from services.download.upkeep.store_identity import GuardedStore

log = structlog.get_logger(__name__)


async def serve(settings: DownloadSettings) -> None:
    """Serves RPCs and runs the jobs of tracks until SIGTERM or SIGINT."""
    return_freed_memory()
    await expect_confinement(settings.decoder)
    await migrate(settings.database_url, "services.download")
    callers = VerifiedCallers(settings, "download")
    separation = open_channel(settings.address.separation, settings.network.tls_dir)
    analysis = open_channel(settings.address.analysis, settings.network.tls_dir)
    async with Database(settings.database_url) as database, separation, analysis:
        section = settings.download
        objects = GuardedStore(open_store(settings), database)
        await _check_store(objects, adopt=section.adopt_store)
        library = open_library(settings, database, objects, callers.identity, separation, analysis)
        draining = Draining()
        servicers = Servicers(library, draining)
        scrubber = Scrubber(
            objects,
            database,
            bytes_per_second=section.scrub_bytes_per_second,
            again_after=timedelta(days=section.scrub_days),
        )
        scrubbing = _in_background(scrubber.run()) if section.scrub_bytes_per_second else contextlib.nullcontext()
        try:
            async with scrubbing, _in_background(library.usage.reservations.run()):
                await run_with_jobs(
                    callers,
                    library.queue,
                    library.acquirer,
                    servicers.service(),
                    listen=settings.download.listen,
                    health_listen=settings.download.health_listen,
                    draining=draining,
                    grace_seconds=settings.download.grace_seconds,
                    problem=objects.problem,
                )
        finally:
            await library.lookups.close()


async def _check_store(objects: GuardedStore, *, adopt: bool) -> None:
    """Logs an error if the store is not the library's. Readiness reports it too, until the right store is there."""
    try:
        await objects.check.identify(adopt=adopt)
        await objects.check.expect()
    except UnavailableError as error:
        log.error("the object store cannot be used", reason=error.reason, detail=error.message)
    else:
        if adopt:
            log.warning("the object store now belongs to this library: unset STEMTUBE_DOWNLOAD__ADOPT_STORE")


@contextlib.asynccontextmanager
async def _in_background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs a coroutine until the end of the block, and cancels it then."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


if __name__ == "__main__":
    run("services.download", "The library: tracks, fetching, and the pipeline.", DownloadSettings, {"serve": serve})
