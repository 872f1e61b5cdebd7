"""Runs the download service, the library: `python -m services.download`."""

from datetime import timedelta

from services.common.client import open_channel
from services.common.confinement_check import expect_confinement
from services.common.database import Database, migrate
from services.common.jobs import JobQueue
from services.common.process import run
from services.common.runtime import Callers, run_with_jobs
from services.common.server import Draining, Service
from services.download import cleanup
from services.download.acquire import Acquirer
from services.download.choices import Choices
from services.download.config import DownloadSettings
from services.download.found_lyrics import FoundLyrics
from services.download.importing import Importer
from services.download.lookups import Lookups
from services.download.pipeline import KIND, Pipeline
from services.download.playlists import Playlists
from services.download.remote import RemoteJobs
from services.download.removal import Remover, Trash
from services.download.service import NAME, DownloadService
from services.download.shelf import Shelf
from services.download.store import Library
from services.download.sweep import Sweeper
from services.download.uploads import Uploads
from services.download.usage import Usage
from stemtube.download.v1 import download_pb2_grpc


async def serve(settings: DownloadSettings) -> None:
    """Serves, and runs the pipelines, until SIGTERM or SIGINT."""
    await expect_confinement(settings.decoder)
    await migrate(settings.database_url, "services.download")
    callers = Callers(settings, "download")
    separation = open_channel(settings.address.separation, settings.network.tls_dir)
    analysis = open_channel(settings.address.analysis, settings.network.tls_dir)
    objects = settings.object_store()
    async with Database(settings.database_url) as database, separation, analysis:
        section = settings.download
        library = Library(database)
        shelf = Shelf(database, timedelta(days=section.grace_days))
        usage = Usage(database, objects, section.quota_bytes)
        remover = Remover(objects, library)
        acquirer = Acquirer(settings, objects, library)
        remote = RemoteJobs(separation, analysis, callers.identity)
        pipeline = Pipeline(library, remover, acquirer, usage, remote, FoundLyrics(section.lyrics_url))
        jobs = JobQueue(
            settings.database_url,
            "download",
            handlers={
                KIND: lambda job: pipeline.handle(job, jobs),
                cleanup.KIND: lambda job: cleanup.Cleanup(sweeper, trash, shelf).handle(job),
            },
            slots=section.pipelines,
            keep_seconds=section.keep_days * 86400,
            chore_seconds=section.chore_seconds,
        )
        trash = Trash(library, shelf, remover, jobs)
        sweeper = Sweeper(
            objects,
            database,
            usage,
            older_than=timedelta(hours=section.draft_hours),
            stems_older_than=timedelta(days=section.stem_days),
        )
        jobs.add_chore(trash.empty)
        jobs.add_chore(sweeper.sweep)
        jobs.add_chore(usage.measure_all)
        jobs.add_chore(lambda: pipeline.discard_given_up(jobs))
        uploads = Uploads(database, objects, timedelta(hours=section.upload_hours))
        jobs.add_chore(uploads.forget_expired)
        lookups = Lookups(settings, database)
        jobs.add_chore(lookups.forget_old)
        draining = Draining()
        choices = Choices(separation, analysis, callers.identity)
        servicer = DownloadService(
            settings,
            library,
            shelf,
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
        try:
            await run_with_jobs(
                callers,
                jobs,
                acquirer,
                Service(NAME, lambda server: download_pb2_grpc.add_DownloadServiceServicer_to_server(servicer, server)),
                listen=settings.download.listen,
                health_listen=settings.download.health_listen,
                draining=draining,
                grace_seconds=settings.download.grace_seconds,
            )
        finally:
            await lookups.close()


if __name__ == "__main__":
    run("services.download", "The library: tracks, fetching, and the pipeline.", DownloadSettings, {"serve": serve})
