"""The work of a track's job, which is stored with the job, and how the job is submitted."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import structlog

from services.common.jobs.messages import queue_priority
from services.common.jobs.queue import JobQueue, job_key
from services.common.jobs.records import JobRecord
from services.common.jobs.requests import request_digest, with_content
from services.download.pipeline.pipeline import KIND
from services.download.pipeline.plan import Plan, complete
from services.download.pipeline.requests import queue_request_id
from stemtube.job.v1 import job_pb2


@dataclass(frozen=True)
class TrackWork:
    """The work of a job.

    Attributes:
        track_id: the track's id.
        plan: the separations and analyses to make.
        priority: priority of the request.
        again: whether to make existing results again, as the user's own versions.
        use_cookies: whether to fetch the link with the operator's cookies.
        url: the link to fetch; empty if the audio is in the library already.
    """

    track_id: str
    plan: Plan
    priority: "job_pb2.Priority.ValueType"
    again: bool
    use_cookies: bool = False
    url: str = ""


def track_work(payload: Mapping[str, Any]) -> TrackWork:
    """The work of a job, from its payload."""
    return TrackWork(**complete(payload))


async def submit(
    jobs: JobQueue, user: str, work: TrackWork, request: Any, content_digest: str = "", *, most_unfinished: int
) -> JobRecord:
    """Submits a track's job, or joins an unfinished one that does the same.

    Args:
        jobs: the library's queue.
        user: the job's owner.
        work: the work of the job.
        request: the RPC's request; the job keeps its id and a digest.
        content_digest: of the bytes that came with the request.
        most_unfinished: jobs that the user may have.

    Raises:
        LimitExceededError: the user has so many already (reason TOO_MANY_JOBS).
    """
    structlog.contextvars.bind_contextvars(track_id=work.track_id)  # the log lines of the job have it, too

    async def never(_record: JobRecord) -> bool:
        return False

    return await jobs.submit(
        KIND,
        asdict(work),
        key=job_key(KIND, user, work.track_id, work.plan, *(["again"] if work.again else [])),
        user=user,
        subject=work.track_id,
        request_id=queue_request_id(user, request),
        digest=with_content(request_digest(request), content_digest),
        priority=queue_priority(work.priority),
        reusable=never,
        most_unfinished=most_unfinished,
    )
