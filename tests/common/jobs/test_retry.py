"""The rules for trying again."""

import pytest

from services.common.errors import AbortedError, InvalidInputError, UnavailableError
from services.common.jobs.retry import RetryPolicy


def test_a_transient_error_is_final_only_at_the_last_try() -> None:
    policy = RetryPolicy(retries=2)
    error = UnavailableError("The other side sleeps.")
    assert [policy.is_final(error, retries) for retries in range(4)] == [False, False, True, True]


def test_a_permanent_error_is_final_at_once() -> None:
    assert RetryPolicy().is_final(InvalidInputError("This is no audio.", "NOT_AUDIO"), 0)


def test_a_job_whose_workers_died_elsewhere_is_tried_fewer_times() -> None:
    policy = RetryPolicy(retries=4, deaths=3)
    died = AbortedError("The work was given up.", "WORKER_DIED")
    assert [policy.is_final(died, retries) for retries in range(4)] == [False, False, True, True]


def test_each_delay_is_twice_the_one_before() -> None:
    policy = RetryPolicy(first_delay_seconds=0.5)
    assert [policy.delay_seconds(retries) for retries in range(4)] == pytest.approx([0.5, 1.0, 2.0, 4.0])
