"""Passwords: bcrypt, off the event loop, with equal work whether or not there is such a user."""

import asyncio
import base64
import hashlib
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import bcrypt
from zxcvbn.frequency_lists import FREQUENCY_LISTS

from services.auth.old_passwords import is_old, matches_old
from services.common.compute.fair_limiter import FairLimiter
from services.common.errors import InvalidInputError
from services.common.limits import MAX_PASSWORD, MIN_PASSWORD
from services.common.rpc.peers import present_client

T = TypeVar("T")

# The most frequent ones of those that were breached and published: 11,611 are long enough to be chosen.
COMMON = frozenset(word for word in FREQUENCY_LISTS["passwords"] if len(word) >= MIN_PASSWORD)
# What everybody tries here first, besides the user's own name.
CONTEXT_WORDS = ("stemtube",)
LEAST_WITHOUT_THEM = 4
BCRYPT_MAX_BYTES = 72
# With two threads the last of them waits for about ten seconds; further ones are better told to come back.
MOST_WAITING = 100
RETRY_SECONDS = 5


def checked_password(password: str, username: str) -> str:
    """A password that somebody chose.

    Raises:
        InvalidInputError: too short, too long, little more than the user's name or ours, or a common one (reason
            BAD_PASSWORD).
    """
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise InvalidInputError(f"A password has {MIN_PASSWORD} to {MAX_PASSWORD} characters.", "BAD_PASSWORD")
    if password.casefold() == username.casefold():
        raise InvalidInputError("A password must not be the user's name.", "BAD_PASSWORD")
    rest = password.casefold()
    for word in (*CONTEXT_WORDS, username.casefold()):
        rest = rest.replace(word, "")
    if len(rest) < LEAST_WITHOUT_THEM:
        raise InvalidInputError("A password must be more than the user's name or StemTube's.", "BAD_PASSWORD")
    if password.casefold() in COMMON:
        raise InvalidInputError("This password is one of those that are tried first; choose another.", "BAD_PASSWORD")
    return password


class PasswordHasher:
    """Hashes and checks passwords in a few threads of its own; the others wait, and client addresses take turns.

    bcrypt releases the GIL, so the event loop goes on meanwhile.

    Args:
        cost: base-2 logarithm of bcrypt's rounds; 12 takes about a quarter of a second.
        threads: how many passwords are hashed at the same time.
    """

    def __init__(self, cost: int, threads: int) -> None:
        self._cost = cost
        # Well-formed and nobody's: a check against it takes as long as one against a user's hash.
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
            LimitExceededError: too many are waiting already (reason TOO_MANY_WAITING), also from `matches`.
        """
        return await self._in_thread(lambda: bcrypt.hashpw(_key(password), bcrypt.gensalt(self._cost)).decode())

    async def matches(self, password: str, hashed: str | None) -> bool:
        """Whether `hashed` was made from this password.

        Args:
            password: what somebody says the password is.
            hashed: the hash of the user's password; None if there is no such user, which takes as long to find out.
        """
        if len(password) > MAX_PASSWORD:
            password, hashed = "", None
        if hashed is not None and is_old(hashed):
            # Beside bcrypt's work, so that the time does not tell who comes from another installation.
            equal, _ = await asyncio.gather(
                self._in_thread(lambda: matches_old(password, hashed)), self.matches(password, None)
            )
            return equal
        against = self._decoy if hashed is None else hashed.encode()
        equal = await self._in_thread(lambda: bcrypt.checkpw(_key(password), against))
        return equal and hashed is not None

    def is_outdated(self, hashed: str) -> bool:
        """Whether `hashed` was made otherwise, or with another cost, than hashes are made with now."""
        return is_old(hashed) or hashed.split("$")[2] != f"{self._cost:02}"

    def close(self) -> None:
        """Ends the threads once they have done what they are at."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        async with self._turns.place(present_client().network):
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _key(password: str) -> bytes:
    """What bcrypt gets: the password, or a hash of one that is longer than the 72 bytes that bcrypt reads.

    Equal characters that keyboards encode differently count as equal (NFKC, as NIST SP 800-63B asks).
    """
    encoded = unicodedata.normalize("NFKC", password).encode()
    if len(encoded) <= BCRYPT_MAX_BYTES:
        return encoded
    return base64.b64encode(hashlib.sha256(encoded).digest())
