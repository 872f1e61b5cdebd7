"""Means with 95 % intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 5000
COVERAGE = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean of `count` songs; its interval reaches from `low` to `high`."""

    mean: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]" if self.count > 1 else f"{self.mean:.3f}"


def estimate(values: Sequence[float], seed: int = 0) -> Estimate:
    """The mean, and the percentile bootstrap's interval over songs (Efron, Annals of Statistics 7, 1979).

    Args:
        values: one score for each song, at least one.
        seed: of the resamples.

    Raises:
        ValueError: there are no values.
    """
    scores = np.array(values, float)
    if not scores.size:
        raise ValueError("a mean needs at least one value")
    chosen = np.random.default_rng(seed).integers(scores.size, size=(RESAMPLES, scores.size))
    tail = 50.0 * (1.0 - COVERAGE)
    low, high = np.percentile(scores[chosen].mean(axis=1), (tail, 100.0 - tail))
    return Estimate(float(scores.mean()), float(low), float(high), scores.size)
