"""The RPCs on storage: its use by users, and statistics, quotas and cleanups for admins."""

from typing import Any

from services.common.errors import InvalidInputError
from services.common.jobs.messages import timestamp
from services.common.jobs.queue import JobQueue
from services.common.jobs.states import STATE_NUMBERS
from services.common.observe import audit
from services.common.rpc.auth import require_admin, require_user
from services.download.upkeep.cleanup import cleanup_message, get_cleanup, start_cleanup
from services.download.upkeep.usage import Usage
from stemtube.download.v1 import upkeep_pb2 as pb
from stemtube.download.v1 import upkeep_pb2_grpc

MAX_USER_ID = 100


class UpkeepService(upkeep_pb2_grpc.UpkeepServiceServicer):
    """The servicer. The contract describes each RPC and its errors.

    Args:
        usage: the users' storage.
        queue: the library's job queue.
    """

    def __init__(self, usage: Usage, queue: JobQueue) -> None:
        self._usage = usage
        self._queue = queue

    async def GetStorageUse(self, _request: pb.GetStorageUseRequest, _context: Any) -> pb.GetStorageUseResponse:
        use = await self._usage.of(require_user().subject)
        return pb.GetStorageUseResponse(
            used_bytes=use.used_bytes, quota_bytes=use.quota_bytes, track_count=use.track_count
        )

    async def ListUserStorage(self, _request: pb.ListUserStorageRequest, _context: Any) -> pb.ListUserStorageResponse:
        require_admin()
        uses = await self._usage.of_all()
        return pb.ListUserStorageResponse(
            users=[
                pb.UserStorage(
                    user_id=user, used_bytes=use.used_bytes, quota_bytes=use.quota_bytes, track_count=use.track_count
                )
                for user, use in uses.items()
            ]
        )

    async def SetUserQuota(self, request: pb.SetUserQuotaRequest, _context: Any) -> pb.SetUserQuotaResponse:
        require_admin()
        if not 0 < len(request.user_id) <= MAX_USER_ID or request.quota_bytes < 0:
            raise InvalidInputError("A quota needs a user, and must be 0 bytes or more.", "BAD_REQUEST")
        quota = request.quota_bytes if request.HasField("quota_bytes") else None
        await self._usage.set_quota(request.user_id, quota)
        audit.record("quota set", user=request.user_id, quota_bytes=quota)
        return pb.SetUserQuotaResponse()

    async def GetStatistics(self, _request: pb.GetStatisticsRequest, _context: Any) -> pb.GetStatisticsResponse:
        require_admin()
        found = await self._usage.statistics()
        jobs = await self._queue.counts()
        return pb.GetStatisticsResponse(
            user_count=found.user_count,
            track_count=found.track_count,
            deleted_track_count=found.deleted_track_count,
            stem_count=found.stem_count,
            playlist_count=found.playlist_count,
            storage=[
                pb.StoredKind(kind=kind.prefix, object_count=kind.object_count, bytes=kind.size_bytes)
                for kind in found.storage
            ],
            storage_time=timestamp(found.storage[0].count_time.timestamp()) if found.storage else None,
            jobs=[pb.JobCount(state=STATE_NUMBERS[state], count=count) for state, count in sorted(jobs.items())],
        )

    async def StartCleanup(self, request: pb.StartCleanupRequest, _context: Any) -> pb.StartCleanupResponse:
        require_admin()
        record = await start_cleanup(self._queue, dry_run=request.dry_run)
        audit.record("cleanup started", job=record.id, dry_run=request.dry_run)
        return pb.StartCleanupResponse(cleanup=cleanup_message(record))

    async def GetCleanup(self, request: pb.GetCleanupRequest, _context: Any) -> pb.GetCleanupResponse:
        require_admin()
        return pb.GetCleanupResponse(cleanup=cleanup_message(await get_cleanup(self._queue, request.cleanup_id)))
