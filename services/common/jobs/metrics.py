"""Prometheus metrics of jobs: backlog, workers, durations.

Metrics of models are in `compute/metrics.py`, those of RPCs in `observe/telemetry.py`, and those of HTTP requests in
the gateway. Names end in their unit.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator

import structlog
from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.common.compute.metrics import SECONDS
from services.common.errors import DataLossError, UnavailableError
from services.common.jobs.records import Backlog

log = structlog.get_logger(__name__)

SUBMISSIONS = Counter(
    "stemtube_job_submissions_total",
    "Submissions; outcome kept: an earlier job's result served again.",
    ["queue", "kind", "outcome"],
)
ENDS = Counter(
    "stemtube_jobs_ended_total", "Jobs that ended here; reason of failures.", ["queue", "kind", "state", "reason"]
)
WAIT_SECONDS = Histogram(
    "stemtube_job_wait_seconds", "From submission to the first start.", ["queue", "kind"], buckets=SECONDS
)
WORK_SECONDS = Histogram(
    "stemtube_job_work_seconds", "An attempt, from its start to the job's end.", ["queue", "kind"], buckets=SECONDS
)
TAKEN_OVER = Counter("stemtube_jobs_taken_over_total", "Jobs taken from workers that had fallen silent.", ["queue"])
SLOTS = Gauge("stemtube_worker_slots", "Jobs that this worker can do at a time.", ["queue"])
ACTIVE = Gauge("stemtube_worker_jobs", "Jobs that this worker is at.", ["queue"])
BEAT = Gauge("stemtube_worker_beat_timestamp_seconds", "When this worker last showed that it lives.", ["queue"])


class QueueCollector(Collector):
    """Reads a queue's backlog only when metrics are collected: numbers are never old, and there is no other load.

    Args:
        queue: its name.
        look: returns the backlog; may block.
    """

    def __init__(self, queue: str, look: Callable[[], Backlog]) -> None:
        self._queue = queue
        self._look = look

    def describe(self) -> Iterable[Metric]:
        """Nothing: otherwise the registry would collect when the collector is registered."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The queue's numbers; none while its database is away or damaged, rather than old ones."""
        try:
            backlog = self._look()
        except (UnavailableError, DataLossError):
            return
        jobs = GaugeMetricFamily("stemtube_queue_jobs", "Unfinished jobs of all processes.", labels=["queue", "state"])
        jobs.add_metric([self._queue, "queued"], backlog.queued)
        jobs.add_metric([self._queue, "running"], backlog.running)
        yield jobs
        oldest = GaugeMetricFamily(
            "stemtube_queue_oldest_seconds", "For how long the oldest queued job has waited.", labels=["queue"]
        )
        oldest.add_metric([self._queue], backlog.oldest_seconds)
        yield oldest


@contextlib.contextmanager
def queue_metrics(queue: str, look: Callable[[], Backlog]) -> Iterator[None]:
    """Adds a queue to this process's metrics within the block; the arguments are as for `QueueCollector`."""
    collector = QueueCollector(queue, look)
    REGISTRY.register(collector)
    try:
        yield
    finally:
        REGISTRY.unregister(collector)
