"""Creates the library's objects from its settings."""

from dataclasses import dataclass
from datetime import timedelta

import grpc.aio

from services.common.jobs.queue import JobQueue
from services.common.jobs.retry import RetryPolicy
from services.common.rpc.auth import ServiceIdentity
from services.common.storage.database import Database
from services.common.storage.disk_room import needs_of
from services.common.storage.marked_store import MarkedStore
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
from services.download.tracks.user_tracks import UserTracks
from services.download.tracks.versions import Versions
from services.download.upkeep import cleanup
from services.download.upkeep.remaking import Remaker
from services.download.upkeep.sweep import Sweeper
from services.download.upkeep.trash import Remover, Trash
from services.download.upkeep.usage import Usage
from services.download.uploads.acquire import Acquirer
from services.download.uploads.uploads import Uploads

# Each process runs dozens of jobs; whatever a song could crash is done by children, whose deaths are errors of the job.
WORKER_DEATHS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """The objects that the RPCs use."""

    settings: DownloadSettings
    objects: MarkedStore
    tracks: TrackRepository
    user_tracks: UserTracks
    playlists: Playlists
    usage: Usage
    trash: Trash
    acquirer: Acquirer
    uploads: Uploads
    lookups: Lookups
    conversions: Conversions
    importer: Importer
    choices: Choices
    pipeline: Pipeline
    queue: JobQueue


def open_library(
    settings: DownloadSettings,
    database: Database,
    objects: MarkedStore,
    identity: ServiceIdentity,
    separation: grpc.aio.Channel,
    analysis: grpc.aio.Channel,
) -> Library:
    """Creates the library of this process. Its queue is not started.

    Args:
        settings: the process's settings.
        database: the library's database.
        objects: the store of files.
        identity: identifies this service to the others.
        separation: channel to the separation service.
        analysis: channel to the analysis service.
    """
    section = settings.download
    tracks = TrackRepository(database)
    user_tracks = UserTracks(database, timedelta(days=section.grace_days))
    usage = Usage(database, objects, section.quota_bytes)
    remover = Remover(objects, tracks)
    acquirer = Acquirer(settings, objects, tracks)
    remote = RemoteJobs(separation, analysis, identity)
    pipeline = Pipeline(
        tracks, remover, acquirer.links, usage, remote, FoundLyrics(section.lyrics_url), Versions(database)
    )
    sweeper = _sweeper(settings, database, objects, usage, Remaker(objects, tracks, acquirer.inspector))
    queue = JobQueue(
        settings.database_url,
        "download",
        handlers={
            KIND: lambda job: pipeline.handle(job, queue),
            cleanup.KIND: lambda job: cleanup.Cleanup(sweeper, trash, user_tracks).handle(job),
        },
        slots=section.pipelines,
        per_user=section.pipelines_per_user,
        keep_seconds=section.keep_days * 86400,
        needs=needs_of(objects, settings.data_dir),
        maintenance_seconds=section.maintenance_seconds,
        retry=RetryPolicy(worker_deaths=WORKER_DEATHS),
    )
    trash = Trash(tracks, user_tracks, remover, queue)
    library = Library(
        settings=settings,
        objects=objects,
        tracks=tracks,
        user_tracks=user_tracks,
        playlists=Playlists(database),
        usage=usage,
        trash=trash,
        acquirer=acquirer,
        uploads=_uploads(settings, database, objects, usage),
        lookups=Lookups(settings, database),
        conversions=Conversions(objects, section.conversion_bytes),
        importer=Importer(database),
        choices=Choices(separation, analysis, identity),
        pipeline=pipeline,
        queue=queue,
    )
    _add_maintenance(library, sweeper)
    return library


def _sweeper(
    settings: DownloadSettings, database: Database, objects: MarkedStore, usage: Usage, remaker: Remaker
) -> Sweeper:
    section = settings.download
    return Sweeper(
        objects,
        database,
        usage,
        remaker,
        older_than=timedelta(hours=section.draft_hours),
        stems_older_than=timedelta(days=section.stem_days),
        unneeded_for=timedelta(days=section.unneeded_days),
        trashed_for=timedelta(days=section.trash_days),
        missing_for=timedelta(days=section.missing_days),
    )


def _uploads(settings: DownloadSettings, database: Database, objects: MarkedStore, usage: Usage) -> Uploads:
    section = settings.download
    return Uploads(
        database,
        objects,
        timedelta(hours=section.upload_hours),
        usage.reservations,
        section.unfinished_uploads_per_user,
    )


def _add_maintenance(library: Library, sweeper: Sweeper) -> None:
    """Has the queue regularly remove data that is not needed any more."""
    queue, pipeline, links = library.queue, library.pipeline, library.acquirer.links
    queue.add_maintenance(library.trash.empty)
    queue.add_maintenance(sweeper.sweep)
    queue.add_maintenance(library.usage.measure_all)
    queue.add_maintenance(library.conversions.trim)
    queue.add_maintenance(lambda: pipeline.discard_abandoned(queue))
    queue.add_maintenance(lambda: pipeline.withdraw_outstanding(queue))
    queue.add_maintenance(library.uploads.forget_expired)
    queue.add_maintenance(links.forget_old_partials)
    queue.add_maintenance(library.lookups.forget_old)
