import time

import pytest

from services.common.errors import LimitExceededError
from services.common.rpc import limits
from services.common.rpc.limits import Slots, TokenBuckets


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def takes(buckets: TokenBuckets, key: str, times: int) -> int:
    """How many of `times` requests are allowed."""
    passed = 0
    for _ in range(times):
        try:
            buckets.take(key)
            passed += 1
        except LimitExceededError:
            pass
    return passed


def test_a_burst_is_allowed_and_then_a_rate(clock: list[float]) -> None:
    buckets = TokenBuckets(rate=2, burst=5)
    assert takes(buckets, "ann", 10) == 5
    assert takes(buckets, "ben", 3) == 3
    clock[0] += 1.5
    assert takes(buckets, "ann", 10) == 3
    clock[0] += 1000
    assert takes(buckets, "ann", 10) == 5


def test_the_error_says_how_long_to_wait(clock: list[float]) -> None:
    buckets = TokenBuckets(rate=0.1, burst=1)
    buckets.take("ann")
    with pytest.raises(LimitExceededError) as refusal:
        buckets.take("ann")
    assert (refusal.value.reason, refusal.value.metadata) == ("TOO_MANY_REQUESTS", {"retry_after_seconds": "10"})


def test_many_callers_take_no_more_memory_than_allowed(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_BUCKETS", 3)
    buckets = TokenBuckets(rate=1, burst=1)
    for key in "abcd":
        buckets.take(key)
    assert len(buckets._buckets) == 3
    assert takes(buckets, "d", 1) == 0


def test_slots_are_given_back() -> None:
    slots = Slots(2)
    with slots.slot("ann"), slots.slot("ann"), slots.slot("ben"):
        with pytest.raises(LimitExceededError) as refusal, slots.slot("ann"):
            pass
        assert refusal.value.reason == "TOO_MANY_STREAMS"
    with slots.slot("ann"), slots.slot("ann"):
        pass
    assert not slots._taken
