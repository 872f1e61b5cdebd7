"""Reserves room in users' quotas for uploads, links and results. All processes share the reservations in the database.

Room is reserved before bytes are stored, in a transaction that locks the user. The transaction that adds the track
releases it, because the track counts from then on. If the work ends without a track, the room is released, too. A
reservation whose process has died is no longer renewed, and is deleted after a while.

The size of a stream is known only at its end. While it arrives, its reservation grows. Older growing reservations have
priority: if many uploads exceed the quota together, the youngest are refused, and not all of them.
"""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Select, and_, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.common.errors import DataLossError, LimitExceededError, UnavailableError
from services.common.storage.database import Database
from services.common.unchanged import Unchanged
from services.download.tables import Access, OwnStem, Quota, Reservation, Stem, Track, Upload

log = structlog.get_logger(__name__)

LIFETIME = timedelta(minutes=2)
RENEWAL_SECONDS = 30.0
# A growing reservation is written to the database each time it has grown by this much.
STEP_BYTES = 8 * 1024 * 1024


def quota_lock(user_id: str) -> str:
    """Name of the lock (see `Database.write`) for reserving room of a user."""
    return f"quota {user_id}"


class Reservations:
    """Reserves room in quotas.

    Args:
        database: the library's database.
        quota_bytes: quota of users without an individual one; 0 for no limit.
    """

    def __init__(self, database: Database, quota_bytes: int) -> None:
        self._database = database
        self._quota_bytes = quota_bytes
        self._times: Unchanged[str, datetime] = Unchanged()

    @asynccontextmanager
    async def held(self, user_id: str) -> AsyncIterator["HeldRoom"]:
        """Yields a reservation of 0 bytes that is renewed until the end of the block, and released then."""
        held = HeldRoom(self, user_id)
        renewing = asyncio.create_task(held.renew())
        try:
            yield held
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            if held.is_limited:
                await asyncio.shield(self.release(held.id))

    async def reserve(self, user_id: str, reservation_id: str, size_bytes: int, *, growing: bool = False) -> None:
        """Makes a reservation, or changes its size.

        Raises:
            LimitExceededError: there is not enough room (reason QUOTA_EXCEEDED).
        """
        async with self._database.write(lock=quota_lock(user_id)) as session:
            await self.reserve_in(session, user_id, reservation_id, size_bytes, growing=growing)

    async def reserve_in(
        self,
        session: AsyncSession,
        user_id: str,
        reservation_id: str,
        size_bytes: int,
        *,
        growing: bool = False,
        lifetime: timedelta | None = None,
    ) -> None:
        """Like `reserve`, in a transaction that holds `quota_lock`."""
        now = datetime.now(UTC)
        row = await session.get(Reservation, reservation_id)
        if row is None:
            row = Reservation(id=reservation_id, user_id=user_id, growing=True, create_time=now, expire_time=now)
        await self._expect(session, row, size_bytes)
        row.size_bytes, row.growing = size_bytes, growing
        row.expire_time = now + (lifetime or LIFETIME)
        session.add(row)

    async def expect(self, user_id: str, size_bytes: int) -> None:
        """Checks that there is room now, and reserves nothing.

        Raises:
            LimitExceededError: there is not enough room (reason QUOTA_EXCEEDED).
        """
        async with self._database.read() as session:
            row = Reservation(id="", user_id=user_id, growing=True, create_time=datetime.now(UTC))
            await self._expect(session, row, size_bytes)

    async def _expect(self, session: AsyncSession, row: Reservation, size_bytes: int) -> None:
        quota = await self.quota_of(session, row.user_id)
        if not quota:
            return
        # A single statement counts a finished upload once: as its reservation or as its track.
        taken = int(await session.scalar(_taken(row)) or 0)
        if taken + size_bytes > quota:
            raise LimitExceededError(
                "Your quota is used up: delete tracks permanently to make room.",
                "QUOTA_EXCEEDED",
                used=str(taken),
                quota=str(quota),
            )

    async def quota_of(self, session: AsyncSession, user_id: str) -> int:
        """A user's quota in bytes; 0 for no limit."""
        own = await session.get(Quota, user_id)
        return own.quota_bytes if own else self._quota_bytes

    async def has_limit(self, user_id: str) -> bool:
        """Whether a user's storage is limited."""
        async with self._database.read() as session:
            return await self.quota_of(session, user_id) > 0

    async def renew(self, reservation_id: str) -> None:
        """Extends a reservation by `LIFETIME` from now."""
        until = datetime.now(UTC) + LIFETIME
        async with self._database.write() as session:
            await session.execute(update(Reservation).where(Reservation.id == reservation_id).values(expire_time=until))

    async def release(self, reservation_id: str) -> None:
        """Deletes a reservation, if it still exists."""
        async with self._database.write() as session:
            await release_in(session, reservation_id)

    async def run(self) -> None:
        """Regularly deletes reservations whose process has died, until it is cancelled."""
        while True:
            try:
                await self.forget_abandoned()
            except (UnavailableError, DataLossError) as error:
                log.warning("cannot look for abandoned reservations", reason=error.reason)
            await asyncio.sleep(RENEWAL_SECONDS)

    async def forget_abandoned(self) -> None:
        """Deletes reservations that were not renewed for `LIFETIME`, in monotonic time of this process.

        By the wall clock, all reservations would expire when the clock jumps. Reservations of unfinished uploads are
        deleted with their upload.
        """
        async with self._database.read() as session:
            held = select(Reservation.id, Reservation.expire_time).where(Reservation.id.not_in(select(Upload.id)))
            times = {row.id: row.expire_time for row in await session.execute(held)}
        for reservation_id, moment in self._times.since(times, LIFETIME.total_seconds()).items():
            same = (Reservation.id == reservation_id, Reservation.expire_time == moment)
            async with self._database.write() as session:
                await session.execute(delete(Reservation).where(*same))


class HeldRoom:
    """A reservation that lasts until the end of a block. It is not written for a user without a limit.

    Attributes:
        id: the reservation's id.
        is_limited: whether the user's storage is limited; None before anything was reserved.
    """

    def __init__(self, reservations: Reservations, user_id: str) -> None:
        self.id = uuid.uuid4().hex
        self._reservations = reservations
        self._user_id = user_id
        self._noted_bytes = 0
        self.is_limited: bool | None = None

    async def growing(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yields the chunks, and reserves room for them as they arrive.

        Raises:
            LimitExceededError: there is no room for more (reason QUOTA_EXCEEDED).
        """
        size = 0
        async for chunk in chunks:
            size += len(chunk)
            if size >= self._noted_bytes + STEP_BYTES or not self._noted_bytes:
                await self._reserve(size, growing=True)
                self._noted_bytes = size
            yield chunk

    async def set_size(self, size_bytes: int) -> None:
        """Reserves the final size, once it is known.

        Raises:
            LimitExceededError: there is not enough room (reason QUOTA_EXCEEDED).
        """
        await self._reserve(size_bytes, growing=False)

    async def renew(self) -> None:
        """Renews the reservation regularly, until it is cancelled."""
        while True:
            await asyncio.sleep(RENEWAL_SECONDS)
            if self.is_limited:
                with contextlib.suppress(UnavailableError):
                    await self._reservations.renew(self.id)

    async def _reserve(self, size_bytes: int, *, growing: bool) -> None:
        if self.is_limited is None:
            self.is_limited = await self._reservations.has_limit(self._user_id)
        if self.is_limited:
            await self._reservations.reserve(self._user_id, self.id, size_bytes, growing=growing)


async def release_in(session: AsyncSession, reservation_id: str) -> None:
    """Deletes a reservation in the transaction that stores the track or stems for which it was made."""
    await session.execute(delete(Reservation).where(Reservation.id == reservation_id))


def _taken(row: Reservation) -> Select[Any]:
    """A query of the bytes that count when a reservation is made or changed: stored ones, and other reservations.

    A growing reservation counts older growing ones. A reservation with its final size counts no growing ones, because
    others may have been refused because of it.
    """
    mine = Access.user_id == row.user_id
    tracks = select(func.coalesce(func.sum(Track.size_bytes), 0)).join(Access).where(mine)
    stems = select(func.coalesce(func.sum(Stem.size_bytes), 0)).join(Access, Access.track_id == Stem.track_id)
    older = or_(
        Reservation.create_time < row.create_time,
        and_(Reservation.create_time == row.create_time, Reservation.id < row.id),
    )
    counts = or_(~Reservation.growing, older) if row.growing else ~Reservation.growing
    others = select(func.coalesce(func.sum(Reservation.size_bytes), 0)).where(
        Reservation.user_id == row.user_id,
        Reservation.id != row.id,
        counts,
    )
    own_stems = select(func.coalesce(func.sum(OwnStem.size_bytes), 0)).where(OwnStem.user_id == row.user_id)
    stems = stems.where(mine)
    kept = tracks.scalar_subquery() + stems.scalar_subquery() + own_stems.scalar_subquery()
    return select(kept + others.scalar_subquery())
