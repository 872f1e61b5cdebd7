"""Inputs made by hypothesis, the same ones for the same seed."""

from collections.abc import Callable
from typing import TypeVar

import hypothesis
from hypothesis import HealthCheck, Phase, strategies

T = TypeVar("T")


def each(strategy: strategies.SearchStrategy[T], seed: int, count: int, check: Callable[[T], None]) -> None:
    """Calls `check` with up to `count` examples.

    It notes what is wrong and goes on, so nothing is kept between runs and nothing is tried again in a simpler form.
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
