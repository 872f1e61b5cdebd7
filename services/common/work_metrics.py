"""Prometheus metrics of models at work. Child processes compute, and their parents, which are looked at, count."""

import os
from collections import Counter as Tally
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

SECONDS = (0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600)

MODEL_SECONDS = Histogram(
    "stemtube_model_work_seconds",
    "Work of one model on one song; of a separation loading and storing included.",
    ["queue", "part", "model"],
    buckets=SECONDS,
)
MODEL_AUDIO_SECONDS = Counter(
    "stemtube_model_audio_seconds_total",
    "Music that a model has worked on; per second of work this is the real-time factor.",
    ["queue", "part", "model"],
)
LOAD_SECONDS = Histogram(
    "stemtube_model_load_seconds", "Loads of a model, fetching included.", ["queue", "part", "model"], buckets=SECONDS
)
GPU_BYTES = Gauge(
    "stemtube_gpu_memory_bytes",
    "After an engine's last task: held by it, the most that the task needed, used by all processes, total of the GPU.",
    ["engine", "what"],
)


def note(metric: str, value: float, labels: dict[str, str]) -> None:
    """Notes a value that a child has measured.

    Args:
        metric: one of `MEASURED`.
        value: seconds or bytes.
        labels: all of the metric's.
    """
    MEASURED[metric](value, labels)


def watch_engine(engine: str, pid: int) -> None:
    """A child has begun."""
    _engines[pid] = engine


def forget_engine(engine: str, pid: int) -> None:
    """A child has ended, and holds no memory any more."""
    _engines.pop(pid, None)
    GPU_BYTES.remove_by_labels({"engine": engine})


_engines: dict[int, str] = {}


class EngineCollector(Collector):
    """Memory of the children that live, as the kernel tells it when somebody asks; on Linux only."""

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry would look already when it is told of the collector."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Resident memory by engine."""
        family = GaugeMetricFamily(
            "stemtube_engine_memory_bytes", "Resident memory of child processes that compute.", labels=["engine"]
        )
        sizes: Tally[str] = Tally()
        for pid, engine in list(_engines.items()):
            sizes[engine] += _resident_bytes(pid)
        for engine, size in sizes.items():
            family.add_metric([engine], size)
        yield family


def _resident_bytes(pid: int) -> int:
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


REGISTRY.register(EngineCollector())


MEASURED = {
    "model_seconds": lambda value, labels: MODEL_SECONDS.labels(**labels).observe(value),
    "model_audio_seconds": lambda value, labels: MODEL_AUDIO_SECONDS.labels(**labels).inc(value),
    "load_seconds": lambda value, labels: LOAD_SECONDS.labels(**labels).observe(value),
    "gpu_memory": lambda value, labels: GPU_BYTES.labels(**labels).set(value),
}
