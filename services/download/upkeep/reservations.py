"""Room that is reserved in a user's quota for what is on its way, in the database, for all processes together.

Room is taken before bytes are kept, in a transaction that no other one of the same user overlaps. It is given back in
the transaction that adds the track, which then counts in its place, or when the work ends otherwise. A reservation
whose process has died is not renewed any more, and is forgotten after a while.

The size of a stream is not known before its end. While it arrives, its reservation grows, and yields to older growing
ones: of many uploads at once, the oldest go on and the youngest are refused, rather than all of them.
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
# A growing reservation is written again when it has grown by so much.
STEP_BYTES = 8 * 1024 * 1024


def quota_lock(user_id: str) -> str:
    """The lock (`Database.write`) under which a user's room is reserved."""
    return f"quota {user_id}"


class Reservations:
    """Reserves room.

    Args:
        database: the library's.
        quota_bytes: of users who have no quota of their own; 0 for no limit.
    """

    def __init__(self, database: Database, quota_bytes: int) -> None:
        self._database = database
        self._quota_bytes = quota_bytes
        self._times: Unchanged[str, datetime] = Unchanged()

    @asynccontextmanager
    async def held(self, user_id: str) -> AsyncIterator["HeldRoom"]:
        """Room for the time of the block, none at first; it is renewed, and given back at the end."""
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
        """As `reserve`, in a transaction that holds `quota_lock`."""
        now = datetime.now(UTC)
        row = await session.get(Reservation, reservation_id)
        if row is None:
            row = Reservation(id=reservation_id, user_id=user_id, growing=True, create_time=now, expire_time=now)
        await self._expect(session, row, size_bytes)
        row.size_bytes, row.growing = size_bytes, growing
        row.expire_time = now + (lifetime or LIFETIME)
        session.add(row)

    async def expect(self, user_id: str, size_bytes: int) -> None:
        """Raises if there is no room now; reserves nothing.

        Raises:
            LimitExceededError: reason QUOTA_EXCEEDED.
        """
        async with self._database.read() as session:
            row = Reservation(id="", user_id=user_id, growing=True, create_time=datetime.now(UTC))
            await self._expect(session, row, size_bytes)

    async def _expect(self, session: AsyncSession, row: Reservation, size_bytes: int) -> None:
        quota = await self.quota_of(session, row.user_id)
        if not quota:
            return
        # One statement sees a finished upload either as its reservation or as its track, never as neither.
        taken = int(await session.scalar(_taken(row)) or 0)
        if taken + size_bytes > quota:
            raise LimitExceededError(
                "Your quota is used up: delete tracks permanently to make room.",
                "QUOTA_EXCEEDED",
                used=str(taken),
                quota=str(quota),
            )

    async def quota_of(self, session: AsyncSession, user_id: str) -> int:
        """What a user may take, in bytes; 0 for no limit."""
        own = await session.get(Quota, user_id)
        return own.quota_bytes if own else self._quota_bytes

    async def has_limit(self, user_id: str) -> bool:
        """Whether there is a limit to what a user may take."""
        async with self._database.read() as session:
            return await self.quota_of(session, user_id) > 0

    async def renew(self, reservation_id: str) -> None:
        """Has a reservation last for a further `LIFETIME`."""
        until = datetime.now(UTC) + LIFETIME
        async with self._database.write() as session:
            await session.execute(update(Reservation).where(Reservation.id == reservation_id).values(expire_time=until))

    async def release(self, reservation_id: str) -> None:
        """Gives the room back, unless it has been taken."""
        async with self._database.write() as session:
            await release_in(session, reservation_id)

    async def run(self) -> None:
        """Forgets, from time to time, reservations whose process has died, until it is cancelled."""
        while True:
            try:
                await self.forget_abandoned()
            except (UnavailableError, DataLossError) as error:
                log.warning("cannot look for abandoned reservations", reason=error.reason)
            await asyncio.sleep(RENEWAL_SECONDS)

    async def forget_abandoned(self) -> None:
        """Deletes reservations that nobody has renewed for `LIFETIME` of this process's own time.

        The time of day may jump, and would expire all at once. Those of unfinished uploads last as long as these.
        """
        async with self._database.read() as session:
            held = select(Reservation.id, Reservation.expire_time).where(Reservation.id.not_in(select(Upload.id)))
            times = {row.id: row.expire_time for row in await session.execute(held)}
        for reservation_id, moment in self._times.since(times, LIFETIME.total_seconds()).items():
            same = (Reservation.id == reservation_id, Reservation.expire_time == moment)
            async with self._database.write() as session:
                await session.execute(delete(Reservation).where(*same))


class HeldRoom:
    """A reservation that lasts as long as its block; for a user without a quota it is not written.

    Attributes:
        id: of the reservation.
        is_limited: whether the user has a quota; None before anything was reserved.
    """

    def __init__(self, reservations: Reservations, user_id: str) -> None:
        self.id = uuid.uuid4().hex
        self._reservations = reservations
        self._user_id = user_id
        self._noted_bytes = 0
        self.is_limited: bool | None = None

    async def growing(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Passes on what arrives, with room for it.

        Raises (or the iterator does):
            LimitExceededError: there is no room for more (reason QUOTA_EXCEEDED).
        """
        size = 0
        async for chunk in chunks:
            size += len(chunk)
            if size >= self._noted_bytes + STEP_BYTES or not self._noted_bytes:
                await self._reserve(size, growing=True)
                self._noted_bytes = size
            yield chunk

    async def settle(self, size_bytes: int) -> None:
        """Reserves what is needed in all, now that this is known.

        Raises:
            LimitExceededError: there is not enough room (reason QUOTA_EXCEEDED).
        """
        await self._reserve(size_bytes, growing=False)

    async def renew(self) -> None:
        """Keeps the reservation from expiring, until cancelled."""
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
    """Gives the room of a reservation back, in the transaction that takes it for good."""
    await session.execute(delete(Reservation).where(Reservation.id == reservation_id))


def _taken(row: Reservation) -> Select[Any]:
    """Bytes that count when a reservation is made or changed: kept ones, and other reservations.

    Of those that grow only older ones count, and none for a reservation that has been settled: others may have been
    refused because of it.
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
