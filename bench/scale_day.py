"""Simulates a day of songs on 10 to 1,000 GPUs: waiting times and node hours under the rule of deploy/k8s.

The time of a job was measured on this project's machines (docs/performance.md). The time to start a node is an
assumption, because there was no cluster; docs/scaling.md says so.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from bench.scale_rule import Direction, Rule, rule_of
from bench.scale_simulation import Outcome, Starts, simulate

DAY_SECONDS = 86_400.0
SIZES = (10, 100, 1000)
TARGETS = (1, 2, 4, 8)
LARGE = 20
"""From this number of pods on, a tenth of them is more than the one pod that the rule removes at a time."""
HEAD = (
    "| most pods | jobs | rule | wait p50 | p95 | p99 | node hours | utilisation | pods started |",
    "|---|---|---|---|---|---|---|---|---|",
)

TIMES_REAL_TIME = 9.1
"""HTDemucs in a warm worker with two cores, in bfloat16: docs/performance.md, "Separation". No GPU was measured."""
BESIDE_SECONDS = 3.2
"""Decoding, encoding and storing in a job: according to the same page, a song of 4 min takes 0.45 s to decode and four
stems take 4 x 0.55 s to encode; half a second is for objects and database."""
SONG_SECONDS, SONG_SPREAD, SONG_LIMITS = 210.0, 0.3, (30.0, 1800.0)
"""Assumed median and logarithmic spread of song lengths; the longest is STEMTUBE_LIMIT__MAX_SECONDS."""

STARTS = Starts(node=180.0, pod=15.0, kept=600.0)
"""Assumed: a GPU node starts in three minutes, with its image, and is kept for ten minutes without use, the cluster
autoscaler's default. A pod on a running node starts in 15 s: a worker is up in 5 s and loads its model with the first
job in another 3 to 10 s (measured)."""

BUSIEST_HOUR, QUIETEST = 20.0, 0.1
BUSY_LOAD = 0.7
BURSTS, BURST_SECONDS, BURST_TIMES = 6, 300.0, 2.0


@dataclass(frozen=True)
class Day:
    """The songs of a day: Poisson arrivals with a rate that depends on the hour, and bursts.

    Args:
        workers: number of workers that have the load `BUSY_LOAD` in the busiest hour, without bursts.
        times_real_time: seconds of music that a worker separates in a second.
        seed: of random numbers.
    """

    workers: int
    times_real_time: float = TIMES_REAL_TIME
    seed: int = 1

    @property
    def mean_seconds(self) -> float:
        """Mean seconds of work of a job, without the limits of length."""
        return SONG_SECONDS * math.exp(SONG_SPREAD**2 / 2) / self.times_real_time + BESIDE_SECONDS

    def jobs(self) -> Iterator[tuple[float, float]]:
        """Yields (arrival, seconds of work) of each job."""
        dice = np.random.default_rng(self.seed)
        highest = BURST_TIMES * BUSY_LOAD * self.workers / self.mean_seconds
        arrivals = np.sort(dice.uniform(0.0, DAY_SECONDS, dice.poisson(highest * DAY_SECONDS)))
        hours = arrivals / 3600
        rate = QUIETEST + (1 - QUIETEST) * (1 + np.cos(2 * np.pi * (hours - BUSIEST_HOUR) / 24)) / 2
        for begin in dice.uniform(0.0, DAY_SECONDS - BURST_SECONDS, BURSTS):
            rate[(arrivals >= begin) & (arrivals < begin + BURST_SECONDS)] *= BURST_TIMES
        arrivals = arrivals[dice.uniform(0.0, BURST_TIMES, arrivals.size) < rate]  # thinning: Lewis, Shedler 1979
        songs = np.clip(SONG_SECONDS * np.exp(SONG_SPREAD * dice.standard_normal(arrivals.size)), *SONG_LIMITS)
        yield from zip(arrivals.tolist(), (songs / self.times_real_time + BESIDE_SECONDS).tolist(), strict=True)


def faster_down(rule: Rule) -> Rule:
    """The same rule, but it may also remove a tenth of the pods at a time."""
    percent = replace(rule.down.policies[0], kind="Percent", value=10)
    return replace(rule, down=Direction((*rule.down.policies, percent), rule.down.window_seconds))


def table() -> list[str]:
    """A table by number of pods and rule, with the job times measured on CPU workers."""
    lines = list(HEAD)
    for size in SIZES:
        lines += _rows(Day(size), _rules(size, TARGETS))
    return lines


def faster_table() -> list[str]:
    """A table for a hundred pods that are ten times as fast, an assumption for GPUs."""
    day = Day(100, 10 * TIMES_REAL_TIME)
    return [*HEAD, *_rows(day, _rules(day.workers, (1, 4, 16)))]


def _rules(most: int, targets: Iterable[int]) -> dict[str, Rule]:
    given = replace(rule_of("separation-work"), most=most)
    rules = {}
    for target in targets:
        rules[f"{target} a pod"] = rule = replace(given, jobs_per_pod=target)
        if most > LARGE:
            rules[f"{target} a pod, down by 10 %"] = faster_down(rule)
    return rules | {"all pods, always": replace(given, fewest=most)}


def _rows(day: Day, rules: dict[str, Rule]) -> Iterator[str]:
    jobs = list(day.jobs())
    for name, rule in rules.items():
        row = _row(day.workers, len(jobs), name, simulate(jobs, rule, STARTS))
        print(row, flush=True)
        yield row


def _row(size: int, jobs: int, rule: str, outcome: Outcome) -> str:
    waits = " | ".join(_seconds(outcome.wait(quantile)) for quantile in (0.5, 0.95, 0.99))
    hours, utilisation = outcome.node_seconds / 3600, outcome.utilisation
    return f"| {size} | {jobs:,} | {rule} | {waits} | {hours:,.0f} | {utilisation:.0%} | {outcome.pods_started:,} |"


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
