"""The events of a user: changes of jobs, and new results of tracks."""

import asyncio
from collections.abc import AsyncGenerator

from services.common.jobs.queue import JobQueue
from services.common.jobs.records import JobRecord
from services.download.tracks.messages import track_job_message
from stemtube.download.v1 import track_job_pb2 as pb
from stemtube.job.v1 import job_pb2


async def user_events(queue: JobQueue, user: str) -> AsyncGenerator[pb.WatchEventsResponse, None]:
    """Yields the unfinished jobs of a user, the end of this snapshot, then every change."""
    finished: dict[str, set[str]] = {}

    def news(record: JobRecord) -> list[pb.WatchEventsResponse]:
        job = track_job_message(record)
        done = {part.name for part in job.parts if part.state == job_pb2.JOB_STATE_SUCCEEDED}
        fresh = done - finished.get(record.id, set())
        finished[record.id] = done
        if record.finished:
            del finished[record.id]
        changed = [pb.TrackChanged(track_id=record.subject, part=part) for part in sorted(fresh)]
        # New results come first, so that a client has all of them when it sees the end of a job.
        return [
            *(pb.WatchEventsResponse(track_changed=change) for change in changed),
            pb.WatchEventsResponse(job=job),
        ]

    changes = queue.changes(lambda record: record.user == user)
    first = asyncio.ensure_future(anext(changes))
    try:
        await asyncio.sleep(0)  # starts collecting changes before the snapshot is read
        for record in await queue.unfinished(user):
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
