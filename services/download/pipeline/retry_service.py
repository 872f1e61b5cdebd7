"""The RPC that tries again what a job could not make."""

from abc import abstractmethod
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

from services.common.errors import PreconditionError
from services.common.jobs.queue import JobQueue
from services.common.jobs.records import JobRecord
from services.common.rpc.auth import Identity, require_user
from services.download.pipeline.choices import Choices
from services.download.pipeline.plan import unmade
from services.download.pipeline.progress import SUCCEEDED, parts_in
from services.download.pipeline.submitting import submit, track_work
from services.download.tables import Track
from services.download.tracks.messages import track_job_message
from stemtube.download.v1 import download_pb2 as pb


class RetryRpcs:
    """Part of the servicer."""

    _choices: Choices
    _jobs: JobQueue

    async def RetryJob(self, request: pb.RetryJobRequest, _context: Any) -> pb.RetryJobResponse:
        caller = require_user()
        async with self._claimed(caller.subject, request) as known:
            record = known or await self._retry(caller, request)
            return pb.RetryJobResponse(job=track_job_message(record))

    async def _retry(self, caller: Identity, request: pb.RetryJobRequest) -> JobRecord:
        record = await self._job(caller.subject, request.job_id)
        if not record.finished:
            raise PreconditionError("The job has not ended yet.", "JOB_NOT_FINISHED")
        made = parts_in(record, SUCCEEDED)
        work = track_work(record.payload)
        plan = unmade(work.plan, made)
        if "acquire" in made and not (plan["separations"] or plan["analyses"]):
            raise PreconditionError("The job has made everything.", "NOTHING_TO_RETRY")
        # A model may have gone since.
        await self._choices.check(plan)
        work = replace(work, plan=plan)
        if work.url and "acquire" not in made:
            # A link that could not be fetched left no track.
            track, use_cookies = await self._add_link(caller, work.url)
            work = replace(work, track_id=track.id, use_cookies=use_cookies)
        else:
            await self._expect_audio(caller.subject, work.track_id)
            await self._expect_room(caller.subject)
        return await submit(self._jobs, caller.subject, work, request)

    @abstractmethod
    async def _job(self, user: str, job_id: str) -> JobRecord: ...

    @abstractmethod
    def _claimed(self, user: str, request: Any) -> AbstractAsyncContextManager[JobRecord | None]: ...

    @abstractmethod
    async def _expect_audio(self, user: str, track_id: str) -> None: ...

    @abstractmethod
    async def _expect_room(self, user: str, size_bytes: int = 0) -> None: ...

    @abstractmethod
    async def _add_link(self, caller: Identity, url: str) -> tuple[Track, bool]: ...
