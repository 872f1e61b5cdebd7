"""Checks whether a user may add work: the quota, the number of waiting jobs, and the object store."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.common.jobs.errors import too_many_jobs
from services.common.jobs.queue import JobQueue
from services.common.storage.objects import ObjectStore
from services.download.upkeep.reservations import HeldRoom
from services.download.upkeep.usage import Usage


class Admission:
    """Refuses work beyond a user's limits, and reserves room in quotas.

    Args:
        objects: the store of results.
        usage: the users' quotas.
        queue: the library's job queue.
        jobs_per_user: how many unfinished jobs a user may have.
    """

    def __init__(self, objects: ObjectStore, usage: Usage, queue: JobQueue, jobs_per_user: int) -> None:
        self._objects = objects
        self._usage = usage
        self._queue = queue
        self._jobs_per_user = jobs_per_user

    async def expect_room(self, user: str, size_bytes: int = 0) -> None:
        """Checks that a user may add work, and as many bytes.

        Raises:
            LimitExceededError: the quota is used up (reason QUOTA_EXCEEDED), or too many of the user's jobs wait
                (reason TOO_MANY_JOBS).
            UnavailableError: the object store is not the library's.
        """
        await self._objects.expect_right_store()
        await self._usage.expect_room(user, size_bytes)
        await self.expect_few_jobs(user)

    async def expect_few_jobs(self, user: str) -> None:
        """Checks early that a user may have another job. The check at the job's submission decides.

        Raises:
            LimitExceededError: too many of the user's jobs wait (reason TOO_MANY_JOBS).
        """
        if await self._queue.unfinished_count(user) >= self._jobs_per_user:
            raise too_many_jobs(self._jobs_per_user)

    @asynccontextmanager
    async def room(self, user: str) -> AsyncIterator[HeldRoom]:
        """Yields a reservation in a user's quota, of 0 bytes at first, that lasts until the end of the block.

        Raises:
            LimitExceededError, UnavailableError: as for `expect_room`.
        """
        await self.expect_room(user)
        async with self._usage.held(user) as room:
            yield room

    async def reserve(self, user: str, reservation_id: str, size_bytes: int) -> None:
        """Sets the size of a reservation in a user's quota.

        Raises:
            LimitExceededError: the quota has not enough room (reason QUOTA_EXCEEDED).
        """
        await self._usage.reservations.reserve(user, reservation_id, size_bytes)
