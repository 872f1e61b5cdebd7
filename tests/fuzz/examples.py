"""Inputs made by hypothesis, which are the same for the same seed."""

from collections.abc import Callable
from typing import TypeVar

import hypothesis
from hypothesis import HealthCheck, Phase, strategies

T = TypeVar("T")


def each(strategy: strategies.SearchStrategy[T], seed: int, count: int, check: Callable[[T], None]) -> None:
    """Calls `check` with up to `count` examples.

    `check` records faults and does not raise, so hypothesis stores no examples and does not shrink them.
    """

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(strategy)
    def run(example: T) -> None:
        check(example)

    run()
