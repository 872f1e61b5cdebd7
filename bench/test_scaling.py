"""The simulation behind docs/scaling.md is right where the answer is known, and uses the rule of the manifests."""

import heapq
import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from bench.scale_day import BUSY_LOAD, QUIETEST, Day
from bench.scale_rule import HPA_SYNC_SECONDS, Direction, Hpa, Policy, Rule, rule_of
from bench.scale_simulation import Outcome, Starts, simulate
from tests.deploy.manifests import rendered

AT_ONCE = Starts(node=0.0, pod=0.0, kept=0.0)
SLOW = Starts(node=180.0, pod=20.0, kept=600.0)


def poisson(rate: float, mean_seconds: float, count: int, seed: int = 1) -> Iterator[tuple[float, float]]:
    """Arrivals and work of an M/M/c queue."""
    dice = random.Random(seed)
    now = 0.0
    for _ in range(count):
        now += dice.expovariate(rate)
        yield now, dice.expovariate(1 / mean_seconds)


def erlang_c_wait(servers: int, load: float, mean_seconds: float) -> float:
    """The mean wait of M/M/c in seconds (Erlang 1917), at a load in servers."""
    below = sum(load**k / math.factorial(k) for k in range(servers))
    above = load**servers / math.factorial(servers) * servers / (servers - load)
    return above / (below + above) * mean_seconds / (servers - load)


def pods_at(outcome: Outcome, moment: float) -> int:
    return [number for at, number in outcome.pods if at <= moment][-1]


def with_pods(number: int) -> Rule:
    return replace(rule_of("separation-work"), fewest=number, most=number)


@pytest.mark.parametrize(("servers", "load"), [(2, 1.0), (4, 2.4)])
def test_waits_with_a_fixed_number_of_pods_follow_erlang_c(servers: int, load: float) -> None:
    waits = simulate(poisson(load / 10, 10.0, 50_000), with_pods(servers), AT_ONCE).waits
    assert sum(waits) / len(waits) == pytest.approx(erlang_c_wait(servers, load, 10.0), rel=0.1)


def test_each_job_waits_for_the_first_pod_that_is_free() -> None:
    jobs = list(poisson(1.8, 10.0, 5_000))
    free, waits = [0.0] * 20, []
    for at, seconds in jobs:
        begin = max(at, heapq.heappop(free))
        waits.append(begin - at)
        heapq.heappush(free, begin + seconds)
    assert simulate(jobs, with_pods(20), AT_ONCE).waits == pytest.approx(waits)


@pytest.mark.parametrize("name", ["separation-work", "analysis-work"])
def test_the_rule_of_each_worker(name: str) -> None:
    rule = rule_of(name)
    assert (rule.fewest, rule.cooldown_seconds, rule.down.window_seconds) == (0, 600, 300)
    assert Policy("Pods", 1, 120) in rule.down.policies
    scaled = rendered("overlays/gpu-cluster").of_kind("ScaledObject")[name]["spec"]
    assert (rule.most, rule.polling_seconds) == (scaled["maxReplicaCount"], scaled["pollingInterval"])


def test_without_jobs_there_are_no_pods_and_the_first_job_starts_one() -> None:
    rule = rule_of("separation-work")
    outcome = simulate([(100.0, 30.0), (7200.0, 30.0)], rule, SLOW)
    first, zero, second = outcome.pods
    assert first[1] == second[1] == 1
    assert zero[1] == 0
    end = 100 + outcome.waits[0] + 30
    assert rule.cooldown_seconds < zero[0] - end <= rule.cooldown_seconds + 2 * rule.polling_seconds
    for wait in outcome.waits:  # by then the node of the first job is gone
        assert SLOW.node + SLOW.pod <= wait <= SLOW.node + SLOW.pod + rule.polling_seconds
    assert outcome.node_seconds == pytest.approx(zero[0] - first[0] + SLOW.kept + 7230 + outcome.waits[1] - second[0])


def test_there_are_never_more_pods_than_allowed_and_no_job_is_lost() -> None:
    rule = replace(rule_of("separation-work"), most=7)
    outcome = simulate(poisson(0.5, 20.0, 5_000), rule, SLOW)
    assert max(number for _, number in outcome.pods) == 7
    assert len(outcome.waits) == 5_000
    # A removed pod ends its job, so its node may overlap with its successor's for a moment.
    assert outcome.most_nodes >= 7


def test_pods_are_removed_one_at_a_time_after_the_window() -> None:
    rule = rule_of("separation-work")
    jobs = [(10.0, 600.0)] * 12 + [(10.0, 3.0)] + [(float(at), 20.0) for at in range(700, 4000, 30)]
    changes = simulate(jobs, replace(rule, grace_seconds=3600), AT_ONCE).pods
    highest = max(number for _, number in changes)
    falling = [at for at, number in changes if at > 610]
    assert highest == 13
    assert falling[0] >= 10 + rule.down.window_seconds
    steps = [earlier - later for (_, earlier), (_, later) in itertools.pairwise(changes) if later < earlier]
    assert steps == [1] * len(steps)
    assert all(later - earlier >= 120 for earlier, later in itertools.pairwise(falling))


def test_pods_are_added_as_fast_as_the_policies_allow() -> None:
    rule = replace(rule_of("separation-work"), most=1000)
    hpa, pods, steps = Hpa(rule), 1, []
    for round_ in range(8):
        pods = hpa.decide(round_ * HPA_SYNC_SECONDS, 500, pods)
        steps.append(pods)
    assert steps == [11, 22, 44, 88, 176, 352, 500, 500]


def test_a_load_near_the_target_changes_nothing() -> None:
    rule = Rule(
        15, 600, 0, 100, 1, Direction((Policy("Percent", 100, 15),), 0), Direction((Policy("Pods", 9, 15),), 0), 60
    )
    assert [Hpa(rule).decide(0.0, jobs, 50) for jobs in (46, 54, 56)] == [50, 50, 56]


def test_a_job_longer_than_the_grace_is_not_simulated() -> None:
    with pytest.raises(ValueError, match="grace"):
        simulate([(1.0, 1300.0)], rule_of("separation-work"), AT_ONCE)


def test_a_day_has_its_nominal_load() -> None:
    day = Day(workers=50)
    arrivals, seconds = (np.array(column) for column in zip(*day.jobs(), strict=True))
    assert np.all(np.diff(arrivals) >= 0)
    assert seconds.mean() == pytest.approx(day.mean_seconds, rel=0.02)

    def load(hour: float) -> float:
        """The load around an hour, in busy workers; the median of many intervals, because bursts are rare."""
        counts = np.histogram(arrivals, bins=np.arange(hour - 0.5, hour + 0.5, 0.05) * 3600)[0]
        return float(np.median(counts)) / 180 * day.mean_seconds

    assert load(20.0) == pytest.approx(BUSY_LOAD * 50, rel=0.1)
    assert load(8.0) == pytest.approx(QUIETEST * BUSY_LOAD * 50, rel=0.3)
