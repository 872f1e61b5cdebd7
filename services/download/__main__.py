"""Runs the download service, the library: `python -m services.download`."""

from datetime import timedelta

from services.common.client import open_channel
from services.common.database import Database, migrate
from services.common.jobs import JobQueue
from services.common.process import run
from services.common.runtime import Callers, run_with_jobs
from services.common.server import Draining, Service
from services.download.acquire import Acquirer
from services.download.choices import Choices
from services.download.config import DownloadSettings
from services.download.lookups import Lookups
from services.download.pipeline import KIND, Pipeline
from services.download.remote import RemoteJobs
from services.download.removal import Remover
from services.download.service import NAME, DownloadService
from services.download.store import Library
from services.download.sweep import sweep
from stemtube.download.v1 import download_pb2_grpc


async def serve(settings: DownloadSettings) -> None:
    """Serves, and runs the pipelines, until SIGTERM or SIGINT."""
    await migrate(settings.database_url, "services.download")
    callers = Callers(settings, "download")
    separation, analysis = open_channel(settings.address.separation), open_channel(settings.address.analysis)
    objects = settings.object_store()
    async with Database(settings.database_url) as database, separation, analysis:
        library = Library(database)
        remover = Remover(objects, library)
        acquirer = Acquirer(settings, objects, library)
        pipeline = Pipeline(library, remover, acquirer, RemoteJobs(separation, analysis, callers.identity))
        jobs = JobQueue(
            settings.database_url,
            "download",
            handlers={KIND: lambda job: pipeline.handle(job, jobs)},
            slots=settings.download.pipelines,
            keep_seconds=settings.download.keep_days * 86400,
            chore_seconds=settings.download.chore_seconds,
        )
        draft_age = timedelta(hours=settings.download.draft_hours)
        stem_age = timedelta(days=settings.download.stem_days)
        jobs.add_chore(lambda: sweep(objects, library, older_than=draft_age, stems_older_than=stem_age))
        jobs.add_chore(lambda: pipeline.discard_given_up(jobs))
        lookups = Lookups(settings, database)
        jobs.add_chore(lookups.forget_old)
        draining = Draining()
        choices = Choices(separation, analysis, callers.identity)
        servicer = DownloadService(
            settings, library, objects, remover, acquirer, choices, jobs, pipeline, lookups, draining
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
