"""Simulates a day of jobs on a changing number of pods, event by event with simpy."""

import itertools
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import simpy

from bench.scale_rule import HPA_SYNC_SECONDS, Hpa, Rule


@dataclass(frozen=True)
class Starts:
    """The delays of a new pod, in seconds.

    Args:
        node: to start a node with a GPU, including its image.
        pod: on a running node, until the pod takes its first job.
        kept: how long a node without a pod is kept and paid for.
    """

    node: float
    pod: float
    kept: float


@dataclass
class Outcome:
    """The outcome of a simulation.

    Attributes:
        waits: seconds from each job's arrival to its start, in the order of starting.
        pods: (seconds, wanted number of pods) at each change.
        busy_seconds: total time in which pods worked.
        node_seconds: total paid time of nodes.
        most_nodes: largest number of nodes at the same time.
        pods_started: number of pods that were started.
    """

    waits: list[float] = field(default_factory=list)
    pods: list[tuple[float, int]] = field(default_factory=list)
    busy_seconds: float = 0.0
    node_seconds: float = 0.0
    most_nodes: int = 0
    pods_started: int = 0

    def wait(self, quantile: float) -> float:
        """A quantile in [0, 1] of the waiting times, in seconds."""
        return float(np.quantile(self.waits, quantile))

    @property
    def utilisation(self) -> float:
        """The share of work in the paid time."""
        return self.busy_seconds / self.node_seconds


def simulate(jobs: Iterable[tuple[float, float]], rule: Rule, starts: Starts) -> Outcome:
    """Runs jobs in the order of arrival on the pods of a rule, until all jobs are done and all pods are gone.

    Args:
        jobs: (arrival, seconds of work), sorted by arrival.
        rule: if `fewest` is above 0, these pods run from the beginning, and the simulation ends with the last job.
        starts: the delays of new pods.

    Raises:
        ValueError: a job is longer than the grace period of a pod; this is not simulated.
    """
    run = _Run(rule, starts)
    run.env.run(run.env.process(run.arrive(jobs)))
    return run.close()


class _Run:
    def __init__(self, rule: Rule, starts: Starts) -> None:
        self.env = simpy.Environment()
        self.outcome = Outcome()
        self._rule = rule
        self._starts = starts
        self._waiting: deque[tuple[float, float]] = deque()
        self._running = 0
        self._pods: list[_Pod] = []  # newest last; without those that are being removed
        self._idle: dict[_Pod, None] = {}
        self._nodes: dict[int, tuple[float, float]] = {}  # (paid since, running since)
        self._free: deque[tuple[int, float]] = deque()  # (node without a pod, since when)
        self._names = itertools.count()
        self._done = self.env.event()
        self._all_there = False
        self._scale(rule.fewest, warm=True)
        self.env.process(self._keda())
        self.env.process(self._hpa())

    def arrive(self, jobs: Iterable[tuple[float, float]]) -> Any:
        """The process of arrivals; it lasts until the last job has ended."""
        for at, seconds in jobs:
            if seconds > self._rule.grace_seconds:
                raise ValueError("a job is longer than the grace of a pod")
            yield self.env.timeout(at - self.env.now)
            self._waiting.append((at, seconds))
            self.wake_one()
        self._all_there = True
        self._check_end()
        yield self._done

    def close(self) -> Outcome:
        """The outcome, including the cost of nodes that still run."""
        for node, since in self._free:
            self._pay(node, min(since + self._starts.kept, self.env.now))
        for node in list(self._nodes):
            self._pay(node, self.env.now)
        return self.outcome

    # ---- decisions

    def _keda(self) -> Any:
        active_at = 0.0
        while True:
            if self._waiting or self._running:
                active_at = self.env.now
                if not self._pods:
                    self._scale(max(self._rule.fewest, 1))
            elif not self._rule.fewest and self._pods and self.env.now - active_at > self._rule.cooldown_seconds:
                self._scale(0)
            yield self.env.timeout(self._rule.polling_seconds)

    def _hpa(self) -> Any:
        hpa = Hpa(self._rule)
        while True:
            if self._pods:
                self._scale(hpa.decide(self.env.now, len(self._waiting) + self._running, len(self._pods)))
            yield self.env.timeout(HPA_SYNC_SECONDS)

    def _scale(self, number: int, warm: bool = False) -> None:
        if number != len(self._pods):
            self.outcome.pods.append((self.env.now, number))
        while len(self._pods) < number:
            self._pods.append(_Pod(self, 0.0 if warm else self._starts.pod, *self._take_node(warm)))
            self.outcome.pods_started += 1
        while len(self._pods) > number:
            # Like a ReplicaSet: removes pods that are not ready first, then the youngest.
            pod = next((pod for pod in reversed(self._pods) if not pod.ready), self._pods[-1])
            self._pods.remove(pod)
            pod.leave()

    # ---- nodes

    def _take_node(self, warm: bool) -> tuple[int, float]:
        """A node, and the time from which it runs."""
        while self._free:
            node, since = self._free.pop()
            if self.env.now - since <= self._starts.kept:
                return node, self._nodes[node][1]
            self._pay(node, since + self._starts.kept)
        node, now = next(self._names), self.env.now
        self._nodes[node] = now, now + (0.0 if warm else self._starts.node)
        self.outcome.most_nodes = max(self.outcome.most_nodes, len(self._nodes))
        return node, self._nodes[node][1]

    def _pay(self, node: int, until: float) -> None:
        self.outcome.node_seconds += until - self._nodes.pop(node)[0]

    # ---- pods

    def next_job(self) -> float | None:
        """Seconds of work of the next job, which a pod begins now."""
        if not self._waiting:
            return None
        at, seconds = self._waiting.popleft()
        self.outcome.waits.append(self.env.now - at)
        self.outcome.busy_seconds += seconds
        self._running += 1
        return seconds

    def job_ended(self) -> None:
        """Called when a pod has ended its job."""
        self._running -= 1
        self._check_end()

    def idle(self, pod: "_Pod") -> None:
        """Called when a pod begins to wait for a job."""
        self._idle[pod] = None

    def gone(self, pod: "_Pod", node: int) -> None:
        """Called when a pod has ended; if it had been woken for a job, another pod gets it."""
        self._idle.pop(pod, None)
        self.wake_one()
        while self._free and self.env.now - self._free[0][1] > self._starts.kept:
            unused, since = self._free.popleft()
            self._pay(unused, since + self._starts.kept)
        self._free.append((node, self.env.now))

    def wake_one(self) -> None:
        """Wakes an idle pod, if there is one and a job for it."""
        if self._waiting and self._idle:
            pod, _ = self._idle.popitem()
            pod.wake.succeed()

    def _check_end(self) -> None:
        if self._all_there and not self._waiting and not self._running and not self._done.triggered:
            self._done.succeed()


class _Pod:
    """A pod: starts, takes one job after another, and finishes the current one when it is told to stop."""

    def __init__(self, run: _Run, start_seconds: float, node: int, node_at: float) -> None:
        self._run = run
        self._start_at = max(node_at, run.env.now) + start_seconds
        self._node = node
        self._working = self._going = False
        self.ready = False
        self.wake = run.env.event()
        self._process = run.env.process(self._live())

    def leave(self) -> None:
        """Tells the pod to stop."""
        self._going = True
        if not self._working:
            self._process.interrupt()

    def _live(self) -> Any:
        env = self._run.env
        try:
            yield env.timeout(self._start_at - env.now)
            self.ready = True
            while not self._going:
                seconds = self._run.next_job()
                if seconds is None:
                    self.wake = env.event()
                    self._run.idle(self)
                    yield self.wake
                    continue
                self._working = True
                yield env.timeout(seconds)
                self._working = False
                self._run.job_ended()
        except simpy.Interrupt:
            pass
        self._run.gone(self, self._node)
