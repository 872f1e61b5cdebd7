"""Prometheus metrics of models. Child processes measure; Prometheus reads from their parents."""

import os
import sys
from collections import Counter as Tally
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client import REGISTRY, Counter, Histogram
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


def note(metric: str, value: float, labels: dict[str, str]) -> None:
    """Records a value that a child has measured.

    Args:
        metric: one of `MEASURED`.
        value: seconds or bytes.
        labels: all of the metric's.
    """
    MEASURED[metric](value, labels)


def gpu_memory() -> dict[str, int]:
    """The GPU's memory in bytes; empty if this process has not used a GPU.

    `held` is the memory that torch holds in this process now, and `most` the most it needed since the last call. `used`
    and `total` are those of the whole GPU, for all processes. Does not import torch.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return {}
    try:
        free, total = torch.cuda.mem_get_info()
        found = {
            "held": torch.cuda.memory_reserved(),
            "most": torch.cuda.max_memory_allocated(),
            "used": total - free,
            "total": total,
        }
        torch.cuda.reset_peak_memory_stats()
    except RuntimeError:  # the next call raises the fault of an earlier kernel
        return {}
    return found


def watch_engine(engine: str, pid: int) -> None:
    """Adds a child that has started."""
    _engines[pid] = engine


def forget_engine(engine: str, pid: int) -> None:
    """Removes a child that has ended."""
    _engines.pop(pid, None)
    _gpu.pop(engine, None)


def _note_gpu(value: float, labels: dict[str, str]) -> None:
    _gpu.setdefault(labels["engine"], {})[labels["what"]] = value


# The engine of each running child, by process id; the GPU's memory after each engine's last task.
_engines: dict[int, str] = {}
_gpu: dict[str, dict[str, float]] = {}


class EngineCollector(Collector):
    """Memory of running children, read when metrics are collected, since idle children end. Linux only."""

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry would collect when the collector is registered."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Resident memory, and the GPU's, by engine."""
        resident = GaugeMetricFamily(
            "stemtube_engine_memory_bytes", "Resident memory of child processes that compute.", labels=["engine"]
        )
        on_gpu = GaugeMetricFamily(
            "stemtube_gpu_memory_bytes",
            "After a child's last task: held by it, most that the task needed, used by all, total of the GPU.",
            labels=["engine", "what"],
        )
        sizes: Tally[str] = Tally()
        for pid, engine in list(_engines.items()):
            sizes[engine] += _resident_bytes(pid)
        for engine, size in sizes.items():
            resident.add_metric([engine], size)
            for what, value in _gpu.get(engine, {}).items() if size else ():
                on_gpu.add_metric([engine, what], value)
        yield from (resident, on_gpu)


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
    "gpu_memory": _note_gpu,
}
