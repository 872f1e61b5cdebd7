"""Limits on the rate and the number of concurrent requests of a caller."""

import contextlib
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from services.common.errors import LimitExceededError

MOST_BUCKETS = 100_000  # some 20 MB


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float


class TokenBuckets:
    """A token bucket for each of many callers: `burst` requests at once, `rate` per second in the long run.

    If there are too many buckets, the least recently used ones are dropped; a dropped bucket counts as full.

    Args:
        rate: tokens added per second.
        burst: size of a bucket in tokens.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, key: str) -> None:
        """Takes a token.

        Raises:
            LimitExceededError: the bucket is empty (reason TOO_MANY_REQUESTS).
        """
        now = time.monotonic()
        bucket = self._buckets.pop(key, None) or _Bucket(self._burst, now)
        self._buckets[key] = bucket
        if len(self._buckets) > MOST_BUCKETS:
            self._buckets.popitem(last=False)
        bucket.tokens = min(bucket.tokens + (now - bucket.filled_at) * self._rate, self._burst)
        bucket.filled_at = now
        if bucket.tokens < 1:
            raise too_many_requests("There were too many requests", (1 - bucket.tokens) / self._rate)
        bucket.tokens -= 1


class Slots:
    """Limits how much a caller has open at the same time.

    Args:
        most: slots of each key.
        in_all: slots of all keys together; None: no limit. A key never gets more slots than remain free, so that a few
            keys cannot take all of them.
    """

    def __init__(self, most: int, in_all: int | None = None) -> None:
        self._most = most
        self._in_all = in_all
        self._taken: Counter[str] = Counter()

    @contextlib.contextmanager
    def slot(self, key: str) -> Iterator[None]:
        """Holds a slot within the context.

        Raises:
            LimitExceededError: no slot is free (reason TOO_MANY_STREAMS).
        """
        most = self._most if self._in_all is None else min(self._most, self._in_all - self._taken.total())
        if self._taken[key] >= most:
            raise LimitExceededError(
                f"Too many streams are open at once; there can be {most}.",
                "TOO_MANY_STREAMS",
                retry_after_seconds="5",
            )
        self._taken[key] += 1
        try:
            yield
        finally:
            self._taken[key] -= 1
            if not self._taken[key]:
                del self._taken[key]


def too_many_requests(what: str, seconds: float) -> LimitExceededError:
    """The error with the time to wait."""
    wait = max(1, -int(-seconds // 1))
    return LimitExceededError(f"{what}; wait {wait} s.", "TOO_MANY_REQUESTS", retry_after_seconds=str(wait))
