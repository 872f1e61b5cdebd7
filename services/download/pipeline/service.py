"""The RPCs on jobs of tracks, and on a user's events."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from services.common.errors import PreconditionError
from services.common.jobs.queue import JobQueue
from services.common.jobs.records import JobRecord
from services.common.rpc.auth import Identity, require_user
from services.common.rpc.draining import Draining
from services.download.fetching.link_tracks import LinkAdder
from services.download.pipeline.admission import Admission
from services.download.pipeline.events import user_events
from services.download.pipeline.plan import remaining_work
from services.download.pipeline.progress import SUCCEEDED, parts_in
from services.download.pipeline.submitting import track_work
from services.download.pipeline.track_jobs import TrackJobs
from services.download.tracks.messages import track_job_message
from services.download.tracks.paging import make_token, page_size, read_token
from services.download.tracks.repository import Grant, TrackRepository
from services.download.tracks.results import expect_audio
from stemtube.download.v1 import track_job_pb2 as pb
from stemtube.download.v1 import track_job_pb2_grpc


class TrackJobService(track_job_pb2_grpc.TrackJobServiceServicer):
    """The servicer. The contract describes each RPC and its errors.

    Args:
        queue: the library's job queue.
        jobs: starts, finds and cancels users' jobs.
        tracks: the tracks of all users.
        links: adds a link again if its track is gone.
        admission: checks quotas and waiting jobs.
        draining: ends the streams when the server stops.
    """

    def __init__(
        self,
        queue: JobQueue,
        jobs: TrackJobs,
        tracks: TrackRepository,
        links: LinkAdder,
        admission: Admission,
        draining: Draining,
    ) -> None:
        self._queue = queue
        self._jobs = jobs
        self._tracks = tracks
        self._links = links
        self._admission = admission
        self._draining = draining

    async def GetJob(self, request: pb.GetJobRequest, _context: Any) -> pb.GetJobResponse:
        return pb.GetJobResponse(job=track_job_message(await self._jobs.get(require_user().subject, request.job_id)))

    async def ListJobs(self, request: pb.ListJobsRequest, _context: Any) -> pb.ListJobsResponse:
        user = require_user().subject
        size = page_size(request.page_size)
        before = read_token(request.page_token, float)
        found = await self._queue.jobs_of(user, before=before, limit=size + 1, subject=request.track_id)
        response = pb.ListJobsResponse(jobs=[track_job_message(record) for record in found[:size]])
        if len(found) > size:
            response.next_page_token = make_token(found[size - 1].created_at, found[size - 1].id)
        return response

    async def WatchJob(self, request: pb.WatchJobRequest, _context: Any) -> AsyncIterator[pb.WatchJobResponse]:
        watched = await self._jobs.get(require_user().subject, request.job_id)
        async for record in self._draining.watch(self._queue.watch(watched.id)):
            yield pb.WatchJobResponse(job=track_job_message(record))

    async def CancelJob(self, request: pb.CancelJobRequest, _context: Any) -> pb.CancelJobResponse:
        record = await self._jobs.get(require_user().subject, request.job_id)
        await self._jobs.cancel(record.id)
        return pb.CancelJobResponse()

    async def RetryJob(self, request: pb.RetryJobRequest, _context: Any) -> pb.RetryJobResponse:
        caller = require_user()
        async with self._jobs.claimed(caller.subject, request) as known:
            record = known or await self._retry(caller, request)
            return pb.RetryJobResponse(job=track_job_message(record))

    async def WatchEvents(
        self, _request: pb.WatchEventsRequest, _context: Any
    ) -> AsyncIterator[pb.WatchEventsResponse]:
        user = require_user().subject
        async for event in self._draining.watch(user_events(self._queue, user)):
            yield event

    async def _retry(self, caller: Identity, request: pb.RetryJobRequest) -> JobRecord:
        record = await self._jobs.get(caller.subject, request.job_id)
        if not record.finished:
            raise PreconditionError("The job has not ended yet.", "JOB_NOT_FINISHED")
        made = parts_in(record, SUCCEEDED)
        work = track_work(record.payload)
        plan = remaining_work(work.plan, made)
        if "acquire" in made and not (plan["separations"] or plan["analyses"]):
            raise PreconditionError("The job has no failed parts.", "NOTHING_TO_RETRY")
        # A chosen model may have been removed since.
        await self._jobs.check(plan)
        work = replace(work, plan=plan)
        if work.url and "acquire" not in made:
            # The track of a link that could not be fetched was removed.
            track, grant, use_cookies = await self._links.add(caller, work.url)
            work = replace(work, track_id=track.id, use_cookies=use_cookies)
        else:
            grant = Grant.NONE
            expect_audio(await self._tracks.track_of(caller.subject, work.track_id))
            await self._admission.expect_room(caller.subject)
        return await self._jobs.submit(caller.subject, work, request, grant)
