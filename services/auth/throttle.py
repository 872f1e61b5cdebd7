"""Slows guessing down: after some failures, each attempt has to wait twice as long as the one before."""

import hashlib
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete

from services.auth.secret import now
from services.auth.tables import Attempts
from services.common.errors import LimitExceededError
from services.common.storage.database import Database

FORGOTTEN_AFTER = timedelta(hours=24)
FIRST_WAIT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Counter:
    """What attempts are counted for.

    Args:
        kind: tells counters apart that have the same name.
        name: an account's, or an address.
        free: attempts without any wait.
        longest_wait: where doubling ends.
    """

    kind: str
    name: str
    free: int
    longest_wait: timedelta

    @property
    def key(self) -> bytes:
        """What it is stored under."""
        return hashlib.sha256(f"{self.kind} {self.name}".encode()).digest()

    def wait(self, count: int) -> timedelta:
        """How long the attempt after `count` of them has to wait."""
        if count < self.free:
            return timedelta(0)
        doublings = min(count - self.free, 30)
        return min(timedelta(seconds=FIRST_WAIT_SECONDS * 2**doublings), self.longest_wait)


def account(name: str) -> Counter:
    """Of one account, whether it exists or not: 10 attempts, then 1, 2, 4 … seconds, a quarter of an hour at last.

    That is at most 115 guesses a day, and the owner, who knows the password, waits no longer than that. Ten programs of
    one user can sign in at the same moment.
    """
    return Counter("account", name, free=10, longest_wait=timedelta(minutes=15))


def address(network: str) -> Counter:
    """Of one network address, behind which there may be a whole school."""
    return Counter("address", network, free=30, longest_wait=timedelta(minutes=15))


def registration(network: str) -> Counter:
    """Of one network address that makes accounts."""
    return Counter("registration", network, free=10, longest_wait=timedelta(hours=1))


class Throttle:
    """Counts attempts, for all replicas, before their outcome is known: many at once are no way round it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, *counters: Counter) -> None:
        """Counts an attempt.

        Raises:
            LimitExceededError: it comes too early, and is not counted (reason TOO_MANY_ATTEMPTS).
        """
        # One after another, so that two attempts at once are two; the work that follows takes far longer than this.
        async with self._database.write(lock="auth attempts") as session:
            found = [(counter, await session.get(Attempts, counter.key)) for counter in counters]
            # Not sooner: it may have waited for the lock, which the first question takes.
            moment = now()
            for counter, row in found:
                if row and counter.wait(row.count) and row.allow_time > moment:
                    raise _too_many(row.allow_time - moment)
            for counter, row in found:
                if row is None:
                    row = Attempts(key=counter.key, count=0)
                    session.add(row)
                elif row.last_time < moment - FORGOTTEN_AFTER:
                    row.count = 0
                row.count += 1
                row.last_time, row.allow_time = moment, moment + counter.wait(row.count)

    async def succeeded(self, account: Counter, *others: Counter) -> None:
        """Forgets the failures of an account; of the others only this attempt, which was none."""
        async with self._database.write(lock="auth attempts") as session:
            await session.execute(delete(Attempts).where(Attempts.key == account.key))
            for counter in others:
                if row := await session.get(Attempts, counter.key):
                    row.count = max(row.count - 1, 0)
                    row.allow_time = row.last_time + counter.wait(row.count)

    async def purge(self) -> None:
        """Forgets what was long ago."""
        async with self._database.write() as session:
            await session.execute(delete(Attempts).where(Attempts.last_time < now() - FORGOTTEN_AFTER))


def _too_many(wait: timedelta) -> LimitExceededError:
    seconds = max(1, -(-wait // timedelta(seconds=1)))
    return LimitExceededError(
        f"There were too many attempts; wait {seconds} s.", "TOO_MANY_ATTEMPTS", retry_after_seconds=str(seconds)
    )
