"""The alerts and the dashboard query metrics and labels that exist in the code."""

import json
import os
import re
from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY

import services.download.upkeep.usage  # noqa: F401
from services.common.compute import metrics as work_metrics
from services.common.jobs import metrics
from services.common.jobs.records import Backlog
from tests.deploy.manifests import base_with

MANIFESTS = base_with("service-monitor")
# Of Prometheus itself and its Python client; of the pods that PodMonitor scrapes.
OTHER_METRICS = {"process_resident_memory_bytes"}
OTHER_LABELS = {"le", "pod", "app_kubernetes_io_name"}
FUNCTIONS = {"sum", "max", "rate", "increase", "histogram_quantile", "time", "absent", "by", "on", "or", "unless"}


def expressions() -> Iterator[tuple[str, str]]:
    (rules,) = MANIFESTS.of_kind("PrometheusRule").values()
    for group in rules["spec"]["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    board = json.loads(MANIFESTS.of_kind("ConfigMap")["stemtube-dashboard"]["data"]["dashboard.json"])
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def in_code() -> tuple[set[str], set[str]]:
    """Names of samples, and names of labels, of all that the processes export."""
    work_metrics.watch_engine("test", os.getpid())
    work_metrics.note("gpu_memory", 1.0, {"engine": "test", "what": "held"})
    with metrics.queue_metrics("separation", lambda: Backlog(1, 1, 1.0)):
        families = list(REGISTRY.collect())
    work_metrics.forget_engine("test", os.getpid())
    shown = {sample.name for family in families for sample in family.samples}
    labels = {label for family in families for sample in family.samples for label in sample.labels}
    for family in families:  # those with labels have no samples before they are used
        shown |= {family.name, *(f"{family.name}_{ending}" for ending in ("total", "bucket", "sum", "count"))}
    for collector in list(REGISTRY._collector_to_names):
        labels |= set(getattr(collector, "_labelnames", ()))
    return shown, labels


@pytest.mark.parametrize(("title", "expression"), list(expressions()))
def test_metrics_that_are_queried_exist(title: str, expression: str) -> None:
    names, labels = in_code()
    plain = re.sub(r'"[^"]*"', '""', expression)
    selectors = re.findall(r"\{([^}]*)\}", plain)
    groups = re.findall(r"\b(?:by|on) \(([^)]*)\)", plain)
    asked = {label for text in selectors for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", text)}
    asked |= {label.strip() for text in groups for label in text.split(",")}
    assert asked <= labels | OTHER_LABELS
    rest = re.sub(r"\{[^}]*\}|\b(?:by|on) \([^)]*\)|\[[^]]*\]", " ", plain)
    words = set(re.findall(r"[a-z_]\w*", rest)) - FUNCTIONS
    assert words
    assert words <= names | OTHER_METRICS
    for opening, closing in ("()", "{}", "[]"):
        assert expression.count(opening) == expression.count(closing)


def test_every_alert_says_what_is_wrong_and_how_bad() -> None:
    (rules,) = MANIFESTS.of_kind("PrometheusRule").values()
    for rule in (rule for group in rules["spec"]["groups"] for rule in group["rules"]):
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in ("critical", "warning")
