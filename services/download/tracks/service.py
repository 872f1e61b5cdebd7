"""The library's RPCs."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from services.common import audio
from services.common.errors import InvalidInputError, LimitExceededError, NotFoundError, PreconditionError
from services.common.file_names import file_name
from services.common.jobs.messages import queue_priority
from services.common.jobs.queue import JobQueue
from services.common.jobs.records import JobRecord
from services.common.jobs.requests import request_digest
from services.common.rpc.auth import Identity, require_user
from services.common.rpc.draining import Draining
from services.common.storage.objects import ObjectStore
from services.download.config import DownloadSettings
from services.download.fetching.addresses import check_link
from services.download.fetching.cookies import CookieRules
from services.download.fetching.lookups import Lookups
from services.download.fetching.pictures import CONTENT_TYPES
from services.download.fetching.sites import deno_path
from services.download.importing.importing import Importer
from services.download.importing.service import ImportRpcs
from services.download.pipeline.choices import Choices
from services.download.pipeline.pipeline import Pipeline
from services.download.pipeline.plan import Plan, make_plan, without
from services.download.pipeline.retry_service import RetryRpcs
from services.download.pipeline.submitting import TrackWork, submit
from services.download.playlists.playlists import Playlists
from services.download.playlists.service import PlaylistRpcs
from services.download.tables import Track
from services.download.tracks.conversions import Conversions
from services.download.tracks.messages import fetching_message, song_message, track_job_message, track_message
from services.download.tracks.paging import make_token, page_size, read_token
from services.download.tracks.repository import TrackRepository
from services.download.tracks.results import TrackData, expect_undamaged
from services.download.tracks.user_tracks import UserTracks
from services.download.tracks.user_tracks_service import ShelfRpcs
from services.download.upkeep.service import UpkeepRpcs
from services.download.upkeep.trash import Trash, derived_key
from services.download.upkeep.usage import Usage
from services.download.uploads.acquire import Acquirer
from services.download.uploads.client_streams import ClientStreams
from services.download.uploads.service import UploadRpcs, own_request
from services.download.uploads.uploads import Uploads
from stemtube.download.v1 import download_pb2 as pb
from stemtube.download.v1 import download_pb2_grpc
from stemtube.separation.v1 import separation_pb2

NAME = "stemtube.download.v1.DownloadService"
ID = re.compile(r"[A-Za-z0-9-]{1,64}")
MAX_QUERY, MAX_FOUND, DEFAULT_FOUND = 200, 50, 10
PEAKS_TYPE = "application/octet-stream"
# Half of the time that a gateway gives it: who waits for longer is better told to come back.
CONVERSION_WAIT_SECONDS = 60.0
CONTAINER_TYPES = {
    "mp3": "audio/mpeg",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "mp4": "audio/mp4",
    "matroska": "audio/webm",
    "ogg": "audio/ogg",
    "aiff": "audio/aiff",
}


class DownloadService(
    UploadRpcs, ImportRpcs, ShelfRpcs, PlaylistRpcs, RetryRpcs, UpkeepRpcs, download_pb2_grpc.DownloadServiceServicer
):
    """The servicer; the contract tells what each RPC does and how it can end."""

    def __init__(
        self,
        settings: DownloadSettings,
        library: TrackRepository,
        user_tracks: UserTracks,
        playlists: Playlists,
        trash: Trash,
        usage: Usage,
        objects: ObjectStore,
        acquirer: Acquirer,
        uploads: Uploads,
        importer: Importer,
        choices: Choices,
        jobs: JobQueue,
        pipeline: Pipeline,
        lookups: Lookups,
        draining: Draining,
    ) -> None:
        self._settings = settings
        self._library = library
        self._user_tracks = user_tracks
        self._playlists = playlists
        self._trash = trash
        self._usage = usage
        self._objects = objects
        self._acquirer = acquirer
        self._uploads = uploads
        self._importer = importer
        self._choices = choices
        self._jobs = jobs
        self._pipeline = pipeline
        self._lookups = lookups
        self._draining = draining
        self._cookies = CookieRules(settings.download)
        self._cookies.warn()
        self._client_streams = ClientStreams(settings.download)
        self._conversions = Conversions(objects, settings.download.conversion_bytes)

    async def CreateTrack(self, request: pb.CreateTrackRequest, _context: Any) -> pb.CreateTrackResponse:
        caller = require_user()
        async with self._claimed(caller.subject, request) as known:
            record = known or await self._create_track(caller, request)
            return pb.CreateTrackResponse(
                track=await self._message(caller.subject, record.subject), job=track_job_message(record)
            )

    async def _create_track(self, caller: Identity, request: pb.CreateTrackRequest) -> JobRecord:
        plan = await self._plan(request)
        url = await check_link(request.url, self._settings.download.allowed_hosts)
        track, use_cookies = await self._add_link(caller, url)
        work = TrackWork(track.id, plan, request.options.priority, again=False, use_cookies=use_cookies, url=url)
        return await self._start_missing(caller.subject, work, request)

    async def _add_link(self, caller: Identity, url: str) -> tuple[Track, bool]:
        """Adds a link's track to the caller's; also whether it is fetched with the operator's cookies."""
        user = caller.subject
        use_cookies = self._cookies.serve(caller, "fetches", url)
        await self._expect_room(user)
        async with self._usage.held(user) as room:
            if not use_cookies:
                # The audio of a link that others have is there already.
                await room.settle(await self._usage.of_link(user, url))
            return await self._library.add_link(user, url, private=use_cookies, reservation_id=room.id), use_cookies

    async def SearchSongs(self, request: pb.SearchSongsRequest, context: Any) -> pb.SearchSongsResponse:
        caller = require_user()
        query, count = " ".join(request.query.split()), request.count or DEFAULT_FOUND
        if not query or len(query) > MAX_QUERY or not 1 <= count <= MAX_FOUND:
            raise InvalidInputError(
                f"query must have 1 to {MAX_QUERY} characters, count be 1 to {MAX_FOUND}", "BAD_REQUEST"
            )
        answer = await self._lookups.search(
            caller.subject,
            query,
            count,
            context.time_remaining(),
            use_cookies=self._cookies.serve(caller, "lookups"),
        )
        return pb.SearchSongsResponse(songs=[song_message(song) for song in answer["entries"]])

    async def LookUpLink(self, request: pb.LookUpLinkRequest, context: Any) -> pb.LookUpLinkResponse:
        caller = require_user()
        url = await check_link(request.url, self._settings.download.allowed_hosts)
        answer = await self._lookups.look_up(
            caller.subject, url, context.time_remaining(), use_cookies=self._cookies.serve(caller, "lookups", url)
        )
        return pb.LookUpLinkResponse(
            song=song_message(answer["song"]), entries=[song_message(song) for song in answer["entries"]]
        )

    async def GetFetching(self, _request: pb.GetFetchingRequest, _context: Any) -> pb.GetFetchingResponse:
        require_user()
        return fetching_message(await asyncio.to_thread(deno_path))

    async def ProcessTrack(self, request: pb.ProcessTrackRequest, _context: Any) -> pb.ProcessTrackResponse:
        user = require_user().subject
        async with self._claimed(user, request) as known:
            record = known or await self._process_track(user, request)
            return pb.ProcessTrackResponse(job=track_job_message(record))

    async def _process_track(self, user: str, request: pb.ProcessTrackRequest) -> JobRecord:
        await self._expect_audio(user, request.track_id)
        if not (request.options.separations or request.options.analyses):
            raise InvalidInputError("options must name what to make again", "BAD_REQUEST")
        plan = await self._plan(request)
        await self._expect_room(user)
        return await submit(
            self._jobs, user, TrackWork(request.track_id, plan, request.options.priority, again=True), request
        )

    async def _expect_audio(self, user: str, track_id: str) -> None:
        """Raises PreconditionError where a track's audio has not arrived (TRACK_NOT_READY) or a file is damaged.

        A link whose audio is damaged is fetched again by the job.
        """
        data = await self._track(user, track_id)
        if not data.track.audio_key:
            raise PreconditionError("The track's audio has not arrived yet.", "TRACK_NOT_READY")
        if not data.track.url:
            expect_undamaged(data, data.track.audio_key)

    async def _expect_room(self, user: str, size_bytes: int = 0) -> None:
        """Raises LimitExceededError where a user has used up the quota (QUOTA_EXCEEDED) or has enough to wait for.

        And UnavailableError where what is added would be written to a store that is not the library's.
        """
        await self._objects.expect_right_store()
        await self._usage.expect_room(user, size_bytes)
        most = self._settings.download.jobs_per_user
        if await self._jobs.unfinished_count(user) >= most:
            raise LimitExceededError(
                f"{most} jobs wait already; come back when some are done.", "TOO_MANY_JOBS", retry_after_seconds="60"
            )

    async def GetMedia(self, request: pb.GetMediaRequest, _context: Any) -> pb.GetMediaResponse:
        user = require_user().subject
        data = await self._track(user, request.track_id)
        if request.kind == pb.MEDIA_KIND_COVER:
            cover = _cover(data)
            await self._objects.expect_right_store()
            return cover
        key, peaks_key, name, suffix = _media(data, request.model, request.stem)
        await self._objects.expect_right_store()
        if request.kind == pb.MEDIA_KIND_PEAKS:
            return pb.GetMediaResponse(key=peaks_key, content_type=PEAKS_TYPE, filename=f"{name}.peaks")
        expect_undamaged(data, key)
        wanted = next((known for known in audio.FORMATS if known == request.format), None)
        if wanted is None and request.format:
            known = ", ".join(audio.FORMATS)
            raise InvalidInputError(f"unknown format {request.format!r}; choose one of {known}", "UNKNOWN_FORMAT")
        if wanted is None or wanted == suffix:
            content_type = CONTAINER_TYPES.get(suffix, "application/octet-stream")
            return pb.GetMediaResponse(key=key, content_type=content_type, filename=f"{name}.{suffix}")
        return pb.GetMediaResponse(
            key=await self._convert(user, key, wanted),
            content_type=audio.CONTENT_TYPES[wanted],
            filename=name + audio.EXTENSIONS[wanted],
        )

    async def GetLiveStems(self, request: pb.GetLiveStemsRequest, _context: Any) -> pb.GetLiveStemsResponse:
        record = await self._job(require_user().subject, request.job_id)
        part = record.detail.get("parts", {}).get(request.part, {})
        if part.get("state") != "running" or not part.get("live"):
            raise NotFoundError("There is nothing to be heard of that yet, or it is complete.", "NO_SUCH_STEM")
        await self._objects.expect_right_store()
        return pb.GetLiveStemsResponse(live=separation_pb2.LiveStems(**part["live"]))

    async def GetJob(self, request: pb.GetJobRequest, _context: Any) -> pb.GetJobResponse:
        return pb.GetJobResponse(job=track_job_message(await self._job(require_user().subject, request.job_id)))

    async def ListJobs(self, request: pb.ListJobsRequest, _context: Any) -> pb.ListJobsResponse:
        user = require_user().subject
        size = page_size(request.page_size)
        before = read_token(request.page_token, float)
        found = await self._jobs.jobs_of(user, before=before, limit=size + 1, subject=request.track_id)
        response = pb.ListJobsResponse(jobs=[track_job_message(record) for record in found[:size]])
        if len(found) > size:
            response.next_page_token = make_token(found[size - 1].created_at, found[size - 1].id)
        return response

    async def WatchJob(self, request: pb.WatchJobRequest, _context: Any) -> AsyncIterator[pb.WatchJobResponse]:
        watched = await self._job(require_user().subject, request.job_id)
        async for record in self._draining.watch(self._jobs.watch(watched.id)):
            yield pb.WatchJobResponse(job=track_job_message(record))

    async def CancelJob(self, request: pb.CancelJobRequest, _context: Any) -> pb.CancelJobResponse:
        record = await self._job(require_user().subject, request.job_id)
        await self._cancel(record.id)
        return pb.CancelJobResponse()

    async def WatchEvents(
        self, _request: pb.WatchEventsRequest, _context: Any
    ) -> AsyncIterator[pb.WatchEventsResponse]:
        user = require_user().subject
        async for event in self._draining.watch(self._events(user)):
            yield event

    async def _events(self, user: str) -> AsyncGenerator[pb.WatchEventsResponse, None]:
        finished: dict[str, set[str]] = {}

        def news(record: JobRecord) -> list[pb.WatchEventsResponse]:
            job = track_job_message(record)
            done = {name for name, part in record.detail.get("parts", {}).items() if part["state"] == "succeeded"}
            fresh = done - finished.get(record.id, set())
            finished[record.id] = done
            if record.finished:
                del finished[record.id]
            changed = [pb.TrackChanged(track_id=record.subject, part=part) for part in sorted(fresh)]
            # What is new of the track comes first: who sees a job end has been told everything.
            return [
                *(pb.WatchEventsResponse(track_changed=change) for change in changed),
                pb.WatchEventsResponse(job=job),
            ]

        changes = self._jobs.changes(lambda record: record.user == user)
        first = asyncio.ensure_future(anext(changes))
        try:
            await asyncio.sleep(0)  # the changes are being gathered from here on
            for record in await self._jobs.unfinished(user):
                finished[record.id] = set()
                for event in news(record):
                    yield event
            yield pb.WatchEventsResponse(snapshot_end=pb.SnapshotEnd())
            record = await first
            while True:
                for event in news(record):
                    yield event
                record = await anext(changes)
        finally:
            first.cancel()
            await asyncio.wait({first})
            await changes.aclose()

    async def _plan(self, request: Any) -> Plan:
        queue_priority(request.options.priority)
        plan = make_plan(request.options if request.HasField("options") else None)
        await self._choices.check(plan)
        return plan

    @asynccontextmanager
    async def _claimed(self, user: str, request: Any) -> AsyncIterator[JobRecord | None]:
        """Claims a request's id, if it has one, for the block that makes its job; the job, if it is there already."""
        if not request.request_id:
            yield None
            return
        if not ID.fullmatch(request.request_id):
            raise InvalidInputError("request_id must be 1 to 64 letters, digits or -", "BAD_REQUEST")
        async with self._jobs.claimed(own_request(user, request), request_digest(request), user) as known:
            yield known

    async def _start(
        self, user: str, track_id: str, plan: Plan, request: Any, *, content_digest: str = ""
    ) -> JobRecord:
        work = TrackWork(track_id, plan, request.options.priority, again=False)
        return await self._start_missing(user, work, request, content_digest)

    async def _start_missing(self, user: str, work: TrackWork, request: Any, content_digest: str = "") -> JobRecord:
        """Submits what a track lacks of some work."""
        data = await self._track(user, work.track_id, computed=True)
        stems: dict[str, set[str]] = {}
        for stem in data.stems:
            stems.setdefault(stem.model, set()).add(stem.name)
        plan = without(work.plan, stems, data.analyses, self._choices.stems)
        return await submit(self._jobs, user, replace(work, plan=plan), request, content_digest)

    async def _cancel(self, job_id: str) -> None:
        await self._jobs.cancel(job_id)
        await self._pipeline.withdraw(self._jobs, job_id)
        record = await self._jobs.get(job_id)
        if record.state == "cancelled":
            await self._pipeline.discard_unfetched(self._jobs, job_id, record.user, record.subject)

    async def _message(self, user: str, track_id: str) -> pb.Track:
        return track_message(await self._track(user, track_id))

    async def _job(self, user: str, job_id: str) -> JobRecord:
        record = await self._jobs.get(job_id)
        if record.user != user:
            raise NotFoundError("There is no such job.", "NO_SUCH_JOB")
        return record

    async def _convert(self, user: str, key: str, wanted: str) -> str:
        derived = derived_key(key, wanted)
        if not await self._objects.exists(derived):
            await self._acquirer.inspector.convert(user, key, wanted, derived, CONVERSION_WAIT_SECONDS)
            await self._conversions.note(derived)
        return derived


def _media(data: TrackData, model: str, stem_name: str) -> tuple[str, str, str, str]:
    """Audio key, peaks key, name for a person, and format of a track's original or of a stem."""
    title = _file_name(data)
    if not stem_name:
        if not data.track.audio_key:
            raise NotFoundError("The track's audio has not arrived yet.", "NO_SUCH_STEM")
        return data.track.audio_key, data.track.peaks_key, title, data.track.suffix
    for stem in data.stems:
        if (stem.model, stem.name) == (model, stem_name):
            return stem.audio_key, stem.peaks_key, f"{title} - {stem.name}", "flac"
    raise NotFoundError("There is no such stem.", "NO_SUCH_STEM")


def _cover(data: TrackData) -> pb.GetMediaResponse:
    key = data.track.cover_key
    if not key:
        raise NotFoundError("The track has no picture.", "NO_COVER")
    suffix = key.rpartition(".")[2]
    return pb.GetMediaResponse(key=key, content_type=CONTENT_TYPES[suffix], filename=f"{_file_name(data)}.{suffix}")


def _file_name(data: TrackData) -> str:
    name = f"{data.artist} - {data.title}" if data.artist else data.title
    return file_name(name)
