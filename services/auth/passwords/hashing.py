"""Hashes and checks passwords with bcrypt in its own threads; the work is the same whether or not the user exists."""

import asyncio
import base64
import hashlib
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import bcrypt

from services.auth.passwords.old_hashes import is_old, matches_old
from services.common.compute.fair_limiter import FairLimiter
from services.common.limits import MAX_PASSWORD
from services.common.rpc.peers import present_client

T = TypeVar("T")

BCRYPT_MAX_BYTES = 72
# With two threads the last of them waits for about ten seconds; further callers are told to try again later.
MOST_WAITING = 100
RETRY_SECONDS = 5


class PasswordHasher:
    """Hashes and checks passwords in a few threads; when all are busy, client addresses take turns.

    bcrypt releases the GIL, so the event loop keeps running.

    Args:
        cost: base-2 logarithm of bcrypt's rounds; 12 takes about a quarter of a second.
        threads: how many passwords are hashed at the same time.
    """

    def __init__(self, cost: int, threads: int) -> None:
        self._cost = cost
        # A well-formed hash of no password: checking against it takes as long as against a user's hash.
        self._decoy = bcrypt.gensalt(cost) + b"." * 31
        self._turns = FairLimiter(
            "passwords",
            threads,
            threads,
            waiting=MOST_WAITING,
            waiting_per_user=MOST_WAITING,
            spare=0,
            retry_after_seconds=RETRY_SECONDS,
        )
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="bcrypt")

    async def hash(self, password: str) -> str:
        """A salted hash of a password, to be stored.

        Raises:
            LimitExceededError: too many passwords are waiting (reason TOO_MANY_WAITING).
        """
        return await self._in_thread(lambda: bcrypt.hashpw(_key(password), bcrypt.gensalt(self._cost)).decode())

    async def matches(self, password: str, hashed: str | None) -> bool:
        """Whether `hashed` was made from this password.

        Args:
            password: the password to check.
            hashed: the hash of the user's password; None if there is no such user, which takes as long to check.

        Raises:
            LimitExceededError: as for `hash`.
        """
        if len(password) > MAX_PASSWORD:
            password, hashed = "", None
        if hashed is not None and is_old(hashed):
            # Together with bcrypt's work, so that the time does not reveal who was imported from another installation.
            equal, _ = await asyncio.gather(
                self._in_thread(lambda: matches_old(password, hashed)), self.matches(password, None)
            )
            return equal
        against = self._decoy if hashed is None else hashed.encode()
        equal = await self._in_thread(lambda: bcrypt.checkpw(_key(password), against))
        return equal and hashed is not None

    def is_outdated(self, hashed: str) -> bool:
        """Whether `hashed` was made with another algorithm or another cost than new hashes."""
        return is_old(hashed) or hashed.split("$")[2] != f"{self._cost:02}"

    def close(self) -> None:
        """Ends the threads when they have finished their current passwords."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        async with self._turns.place(present_client().network):
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _key(password: str) -> bytes:
    """The input for bcrypt: the password, or a hash of it if it is longer than the 72 bytes that bcrypt reads.

    Equal characters that keyboards encode differently count as equal (NFKC, as NIST SP 800-63B asks).
    """
    encoded = unicodedata.normalize("NFKC", password).encode()
    if len(encoded) <= BCRYPT_MAX_BYTES:
        return encoded
    return base64.b64encode(hashlib.sha256(encoded).digest())
