"""Runs the download service, the library: `python -m services.download`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from datetime import timedelta
from typing import Any

import structlog

from services.common.compute.confinement_check import expect_confinement
from services.common.compute.memory import return_freed_memory
from services.common.errors import UnavailableError
from services.common.jobs.queue import JobQueue
from services.common.process import run
from services.common.rpc.client import open_channel
from services.common.rpc.draining import Draining
from services.common.rpc.runtime import VerifiedCallers, run_with_jobs
from services.common.rpc.server import Service
from services.common.storage.database import Database, migrate
from services.common.storage.objects import open_store
from services.download.config import DownloadSettings
from services.download.fetching.lookups import Lookups
from services.download.importing.importing import Importer
from services.download.pipeline.choices import Choices
from services.download.pipeline.found_lyrics import FoundLyrics
from services.download.pipeline.pipeline import KIND, Pipeline
from services.download.pipeline.remote import RemoteJobs
from services.download.playlists.playlists import Playlists
from services.download.tracks.conversions import Conversions
from services.download.tracks.repository import TrackRepository
from services.download.tracks.service import NAME, DownloadService
from services.download.tracks.user_tracks import UserTracks
from services.download.tracks.versions import Versions
from services.download.upkeep import cleanup
from services.download.upkeep.scrub import Scrubber
from services.download.upkeep.store_identity import GuardedStore
from services.download.upkeep.sweep import Sweeper
from services.download.upkeep.trash import Remover, Trash
from services.download.upkeep.usage import Usage
from services.download.uploads.acquire import Acquirer
from services.download.uploads.client_streams import MAX_REQUEST_BYTES
from services.download.uploads.uploads import Uploads
from stemtube.download.v1 import download_pb2_grpc

log = structlog.get_logger(__name__)


async def serve(settings: DownloadSettings) -> None:
    """Serves, and runs the pipelines, until SIGTERM or SIGINT."""
    return_freed_memory()
    await expect_confinement(settings.decoder)
    await migrate(settings.database_url, "services.download")
    callers = VerifiedCallers(settings, "download")
    separation = open_channel(settings.address.separation, settings.network.tls_dir)
    analysis = open_channel(settings.address.analysis, settings.network.tls_dir)
    async with Database(settings.database_url) as database, separation, analysis:
        section = settings.download
        objects = GuardedStore(open_store(settings), database)
        await _settle(objects, adopt=section.adopt_store)
        library = TrackRepository(database)
        user_tracks = UserTracks(database, timedelta(days=section.grace_days))
        usage = Usage(database, objects, section.quota_bytes)
        remover = Remover(objects, library)
        acquirer = Acquirer(settings, objects, library)
        remote = RemoteJobs(separation, analysis, callers.identity)
        pipeline = Pipeline(
            library, remover, acquirer.links, usage, remote, FoundLyrics(section.lyrics_url), Versions(database)
        )
        jobs = JobQueue(
            settings.database_url,
            "download",
            handlers={
                KIND: lambda job: pipeline.handle(job, jobs),
                cleanup.KIND: lambda job: cleanup.Cleanup(sweeper, trash, user_tracks).handle(job),
            },
            slots=section.pipelines,
            per_user=section.pipelines_per_user,
            keep_seconds=section.keep_days * 86400,
            needs=objects.problem,
            chore_seconds=section.chore_seconds,
        )
        trash = Trash(library, user_tracks, remover, jobs)
        sweeper = Sweeper(
            objects,
            database,
            usage,
            older_than=timedelta(hours=section.draft_hours),
            stems_older_than=timedelta(days=section.stem_days),
            unneeded_for=timedelta(days=section.unneeded_days),
            trashed_for=timedelta(days=section.trash_days),
            missing_for=timedelta(days=section.missing_days),
        )
        jobs.add_maintenance(trash.empty)
        jobs.add_maintenance(sweeper.sweep)
        jobs.add_maintenance(usage.measure_all)
        jobs.add_maintenance(Conversions(objects, section.conversion_bytes).trim)
        jobs.add_maintenance(lambda: pipeline.discard_given_up(jobs))
        jobs.add_maintenance(lambda: pipeline.withdraw_outstanding(jobs))
        uploads = Uploads(
            database,
            objects,
            timedelta(hours=section.upload_hours),
            usage.reservations,
            section.unfinished_uploads_per_user,
        )
        jobs.add_maintenance(uploads.forget_expired)
        jobs.add_maintenance(acquirer.links.forget_old_partials)
        lookups = Lookups(settings, database)
        jobs.add_maintenance(lookups.forget_old)
        draining = Draining()
        choices = Choices(separation, analysis, callers.identity)
        servicer = DownloadService(
            settings,
            library,
            user_tracks,
            Playlists(database),
            trash,
            usage,
            objects,
            acquirer,
            uploads,
            Importer(database),
            choices,
            jobs,
            pipeline,
            lookups,
            draining,
        )
        scrubber = Scrubber(
            objects,
            database,
            bytes_per_second=section.scrub_bytes_per_second,
            again_after=timedelta(days=section.scrub_days),
        )
        scrubbing = _beside(scrubber.run()) if section.scrub_bytes_per_second else contextlib.nullcontext()
        try:
            async with scrubbing, _beside(usage.reservations.run()):
                await run_with_jobs(
                    callers,
                    jobs,
                    acquirer,
                    Service(
                        NAME,
                        lambda server: download_pb2_grpc.add_DownloadServiceServicer_to_server(servicer, server),
                        max_request_bytes=MAX_REQUEST_BYTES,
                    ),
                    listen=settings.download.listen,
                    health_listen=settings.download.health_listen,
                    draining=draining,
                    grace_seconds=settings.download.grace_seconds,
                    problem=objects.problem,
                )
        finally:
            await lookups.close()


async def _settle(objects: GuardedStore, *, adopt: bool) -> None:
    """Finds out whether the store is the library's. If not, readiness says so until it is."""
    try:
        await objects.check.settle(adopt=adopt)
        await objects.check.expect()
    except UnavailableError as error:
        log.error("the object store cannot be used", reason=error.reason, detail=error.message)
    else:
        if adopt:
            log.warning("the object store was taken for this library's: set STEMTUBE_DOWNLOAD__ADOPT_STORE back")


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Does something as long as the block lasts."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


if __name__ == "__main__":
    run("services.download", "The library: tracks, fetching, and the pipeline.", DownloadSettings, {"serve": serve})
