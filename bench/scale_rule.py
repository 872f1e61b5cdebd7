"""Reads the autoscaling rule of the rendered deploy/k8s, and computes the numbers of pods that KEDA and its HPA choose.

The arithmetic follows KEDA 2.16 (pkg/scaling/executor) and Kubernetes 1.33 (pkg/controller/podautoscaler).
"""

import math
import re
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.deploy.manifests import main_container, rendered

HPA_SYNC_SECONDS = 15.0
"""Time between two looks of the HPA: --horizontal-pod-autoscaler-sync-period of kube-controller-manager."""
TOLERANCE = 0.1
"""The HPA does not react to smaller deviations: --horizontal-pod-autoscaler-tolerance."""


@dataclass(frozen=True)
class Policy:
    """How many pods may be added or removed within `seconds`: `value` pods, or per cent of the pods."""

    kind: Literal["Pods", "Percent"]
    value: float
    seconds: float


@dataclass(frozen=True)
class Direction:
    """The policies for adding or for removing pods; the one that allows most counts."""

    policies: tuple[Policy, ...]
    window_seconds: float


@dataclass(frozen=True)
class Rule:
    """A ScaledObject on queued and running jobs, with the grace period of its pods.

    Args:
        polling_seconds: polling interval of KEDA, which starts the first pod and removes the last ones.
        cooldown_seconds: time without a job before KEDA removes all pods.
        fewest: smallest number of pods, or 0.
        most: largest number of pods.
        jobs_per_pod: the target.
        up: policies for adding pods.
        down: policies for removing pods.
        grace_seconds: time in which a pod that is removed can end its job.
    """

    polling_seconds: float
    cooldown_seconds: float
    fewest: int
    most: int
    jobs_per_pod: float
    up: Direction
    down: Direction
    grace_seconds: float


def rule_of(name: str, overlay: str = "gpu-cluster") -> Rule:
    """The rule of a Deployment (`separation-work`), rendered by kustomize.

    Raises:
        ValueError: the manifests use a feature that is not supported here.
    """
    manifests = rendered(f"overlays/{overlay}")
    spec = manifests.of_kind("ScaledObject")[name]["spec"]
    behaviour = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    (trigger,) = spec["triggers"]
    if (trigger["type"], trigger["metricType"], trigger["metadata"]["valueLocation"]) != (
        "metrics-api",
        "AverageValue",
        "unfinished",
    ):
        raise ValueError(f"{name} does not scale on unfinished jobs per pod")
    container = main_container(manifests.deployments[spec["scaleTargetRef"]["name"]])
    (grace,) = (
        float(entry["value"])
        for entry in container["env"]
        if re.fullmatch(r"STEMTUBE_\w+__GRACE_SECONDS", entry["name"])
    )
    return Rule(
        polling_seconds=spec["pollingInterval"],
        cooldown_seconds=spec["cooldownPeriod"],
        fewest=spec["minReplicaCount"],
        most=spec["maxReplicaCount"],
        jobs_per_pod=float(trigger["metadata"]["targetValue"]),
        up=_direction(behaviour["scaleUp"]),
        down=_direction(behaviour["scaleDown"]),
        grace_seconds=grace,
    )


def _direction(found: dict[str, Any]) -> Direction:
    if found.get("selectPolicy", "Max") != "Max":
        raise ValueError("only the policy that allows most is understood")
    return Direction(
        tuple(Policy(entry["type"], entry["value"], entry["periodSeconds"]) for entry in found["policies"]),
        found["stabilizationWindowSeconds"],
    )


@dataclass
class Hpa:
    """The HPA that KEDA creates; while there is a pod, it decides between one pod and the most."""

    rule: Rule
    _wanted: deque[tuple[float, int]] = field(default_factory=deque)
    _changes: deque[tuple[float, int]] = field(default_factory=deque)

    def decide(self, now: float, jobs: int, pods: int) -> int:
        """The wanted number of pods for the present `pods` and unfinished jobs. It takes effect at once."""
        least = max(self.rule.fewest, 1)
        wanted = min(max(self._proposal(jobs, pods), least), self.rule.most)
        stable = self._stabilized(now, wanted, pods)
        if stable > pods:
            decided = min(stable, max(self._limit(now, pods, self.rule.up, +1), pods), self.rule.most)
        elif stable < pods:
            decided = max(stable, min(self._limit(now, pods, self.rule.down, -1), pods), least)
        else:
            decided = pods
        if decided != pods:
            self._changes.append((now, decided - pods))
        return decided

    def _proposal(self, jobs: int, pods: int) -> int:
        load = jobs / (self.rule.jobs_per_pod * pods)
        return pods if abs(load - 1) <= TOLERANCE else math.ceil(jobs / self.rule.jobs_per_pod)

    def _stabilized(self, now: float, wanted: int, pods: int) -> int:
        self._wanted.append((now, wanted))
        longest = max(self.rule.up.window_seconds, self.rule.down.window_seconds)
        while self._wanted[0][0] < now - longest:
            self._wanted.popleft()
        least = min(number for at, number in self._wanted if at >= now - self.rule.up.window_seconds)
        most = max(number for at, number in self._wanted if at >= now - self.rule.down.window_seconds)
        return min(max(pods, least), most)

    def _limit(self, now: float, pods: int, direction: Direction, sign: int) -> int:
        """The number that the most generous policy allows."""
        periods = [policy.seconds for policy in (*self.rule.up.policies, *self.rule.down.policies)]
        while self._changes and self._changes[0][0] <= now - max(periods):
            self._changes.popleft()
        allowed = []
        for policy in direction.policies:
            before = pods - sum(change for at, change in self._changes if at > now - policy.seconds)
            if policy.kind == "Pods":
                allowed.append(before + sign * policy.value)
            elif sign > 0:
                allowed.append(math.ceil(before * (1 + policy.value / 100)))
            else:
                allowed.append(int(before * (1 - policy.value / 100)))
        return int(max(allowed) if sign > 0 else min(allowed))
