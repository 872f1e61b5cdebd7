"""Limits how fast passwords can be guessed: after some failures, each attempt has to wait twice as long."""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete

from services.auth.tables import Attempts
from services.auth.times import CLOCKS_DIFFER, now
from services.common.errors import LimitExceededError
from services.common.storage.database import Database

FORGOTTEN_AFTER = timedelta(hours=24)
FIRST_WAIT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Counter:
    """Counts the attempts of one account or one address.

    Args:
        kind: of the counter; counters of different kinds can have the same name.
        name: of the account, or the network address.
        free: number of attempts without a wait.
        longest_wait: the wait doubles up to this.
    """

    kind: str
    name: str
    free: int
    longest_wait: timedelta

    @property
    def key(self) -> bytes:
        """The key of the counter in the database."""
        return hashlib.sha256(f"{self.kind} {self.name}".encode()).digest()

    def wait(self, count: int) -> timedelta:
        """How long the next attempt has to wait after `count` attempts."""
        if count < self.free:
            return timedelta(0)
        doublings = min(count - self.free, 30)
        return min(timedelta(seconds=FIRST_WAIT_SECONDS * 2**doublings), self.longest_wait)


def account(name: str) -> Counter:
    """The counter of one account, which need not exist: 10 attempts, then waits of 1, 2, 4 … seconds, up to 15 minutes.

    This allows at most 115 guesses a day, and makes the owner, who knows the password, wait for 15 minutes at most. Ten
    programs of one user can sign in at the same time.
    """
    return Counter("account", name, free=10, longest_wait=timedelta(minutes=15))


def address(network: str) -> Counter:
    """The counter of one network address, which a whole school may share."""
    return Counter("address", network, free=30, longest_wait=timedelta(minutes=15))


def registration(network: str) -> Counter:
    """The counter of registrations from one network address."""
    return Counter("registration", network, free=10, longest_wait=timedelta(hours=1))


class Throttle:
    """Counts attempts of all replicas, before their outcome is known, so that many at once are limited as well."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, *counters: Counter) -> None:
        """Counts an attempt.

        Raises:
            LimitExceededError: the attempt comes too early, and is not counted (reason TOO_MANY_ATTEMPTS).
        """
        # Under a lock, so that two attempts at once count as two. The password check that follows takes far longer.
        async with self._database.write(lock="auth attempts") as session:
            found = [(counter, await session.get(Attempts, counter.key)) for counter in counters]
            # Read the clock only now: the first query waits for the lock.
            moment = now()
            for counter, row in found:
                if row and counter.wait(row.count) and _is_early(row, moment):
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
        """Resets the counter of an account, and takes this attempt off the other counters."""
        async with self._database.write(lock="auth attempts") as session:
            await session.execute(delete(Attempts).where(Attempts.key == account.key))
            for counter in others:
                if row := await session.get(Attempts, counter.key):
                    row.count = max(row.count - 1, 0)
                    row.allow_time = row.last_time + counter.wait(row.count)

    async def purge(self) -> None:
        """Deletes counters whose last attempt was long ago."""
        async with self._database.write() as session:
            await session.execute(delete(Attempts).where(Attempts.last_time < now() - FORGOTTEN_AFTER))


def _is_early(row: Attempts, moment: datetime) -> bool:
    # If the clock was set back since the last attempt, the time to wait for may be days away.
    return row.last_time - CLOCKS_DIFFER <= moment < row.allow_time


def _too_many(wait: timedelta) -> LimitExceededError:
    seconds = max(1, -(-wait // timedelta(seconds=1)))
    return LimitExceededError(
        f"There were too many attempts; wait {seconds} s.", "TOO_MANY_ATTEMPTS", retry_after_seconds=str(seconds)
    )
