"""`stemtube status`: the state of this machine's processes, their jobs, workers, GPUs, and the last errors."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from cli.local.gpus import Gpu, find_gpus

ASK_SECONDS = 5.0
ERRORS_SHOWN = 10
MIB = 2**20

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Process:
    """The state of one process.

    Args:
        name: of the service, or the gateway.
        state: ready, not ready (with the reason, if the process gives one), or away.
        values: its metrics by name and labels.
        errors: its last errors.
    """

    name: str
    state: str
    values: Mapping[tuple[str, Labels], float] = field(default_factory=dict)
    errors: tuple[Mapping[str, str], ...] = ()

    def value(self, metric: str, **labels: str) -> float | None:
        """The sum over all samples of a metric that have these labels; None if there is none."""
        wanted = set(labels.items())
        found = [number for (name, own), number in self.values.items() if name == metric and wanted <= set(own)]
        return sum(found) if found else None

    def by(self, label: str, metric: str, **labels: str) -> dict[str, float]:
        """The sums, by the values of one label."""
        values = {dict(own)[label] for name, own in self.values if name == metric}
        sums = {value: self.value(metric, **{label: value}, **labels) for value in sorted(values)}
        return {value: number for value, number in sums.items() if number is not None}


async def ask(places: Mapping[str, str]) -> list[Process]:
    """Asks all processes at the same time.

    Args:
        places: base URL of each process's health address, by name.
    """
    timeout = aiohttp.ClientTimeout(total=ASK_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        return list(await asyncio.gather(*(_ask(session, name, url) for name, url in places.items())))


async def _ask(session: aiohttp.ClientSession, name: str, url: str) -> Process:
    try:
        async with session.get(f"{url}/readyz") as answer:
            state = "ready" if answer.ok else (await answer.text()).strip()
        async with session.get(f"{url}/metrics") as answer:
            families = list(text_string_to_metric_families(await answer.text())) if answer.ok else []
        async with session.get(f"{url}/errors") as answer:  # missing if a gateway has no address for operators
            errors = (await answer.json())["errors"] if answer.ok else []
    except (aiohttp.ClientError, TimeoutError):
        return Process(name, "away")
    samples = (sample for family in families for sample in family.samples)
    values = {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}
    return Process(name, state, values, tuple(errors))


def show(processes: list[Process], console: Console) -> None:
    """Prints tables of the processes, their queues and workers, the GPUs, and the last errors."""
    for table in (_processes(processes), _queues(processes), _workers(processes)):
        console.print(table)
    gpus = find_gpus()
    for gpu in gpus:
        console.print(_describe(gpu), highlight=False, markup=False)
    if not gpus:
        console.print("No NVIDIA GPU is found here: models run on the CPU.", highlight=False)
    errors = sorted((error for process in processes for error in process.errors), key=lambda error: error["timestamp"])
    for error in errors[-ERRORS_SHOWN:]:
        rest = " ".join(f"{name}={value}" for name, value in error.items() if name not in ("timestamp", "event"))
        console.print(f"{error['timestamp']} {error['event']} {rest}", style="red", highlight=False, markup=False)


def _processes(processes: list[Process]) -> Table:
    table = Table("process", "state", "for", "memory", "requests", "faults")
    for process in processes:
        if process.state == "away":
            table.add_row(process.name, process.state)
            continue
        http = process.name == "gateway"
        name = "stemtube_http_requests_total" if http else "stemtube_rpcs_total"
        faults = process.value(name, **({"status": "500"} if http else {"code": "INTERNAL"}))
        table.add_row(
            process.name,
            process.state,
            # Both are known on Linux only.
            _duration(time.time() - began) if (began := process.value("process_start_time_seconds")) else "",
            f"{memory / MIB:.0f} MiB" if (memory := process.value("process_resident_memory_bytes")) else "",
            f"{process.value(name) or 0:.0f}",
            f"{faults or 0:.0f}",
        )
    return table


def _queues(processes: list[Process]) -> Table:
    table = Table("queue", "waiting", "running", "oldest", "done here", "failed", "kept results used")
    for process in processes:
        queued = process.value("stemtube_queue_jobs", state="queued")
        if queued is None:
            continue
        ended = (process.value("stemtube_jobs_ended_total", state=state) or 0 for state in ("succeeded", "failed"))
        table.add_row(
            process.name,
            f"{queued:.0f}",
            f"{process.value('stemtube_queue_jobs', state='running') or 0:.0f}",
            _duration(process.value("stemtube_queue_oldest_seconds") or 0.0),
            *(f"{count:.0f}" for count in ended),
            f"{process.value('stemtube_job_submissions_total', outcome='kept') or 0:.0f}",
        )
    return table


def _workers(processes: list[Process]) -> Table:
    table = Table("worker", "busy", "last sign of life", "memory of its children", "GPU memory", "models loaded")
    for process in processes:
        worker = _worker(process)
        if worker:
            table.add_row(
                process.name,
                f"{worker['busy']} of {worker['slots']}",
                f"{_duration(worker['silentSeconds'])} ago" if worker["silentSeconds"] is not None else "",
                ", ".join(f"{name} {size / MIB:.0f} MiB" for name, size in worker["memoryBytes"].items()),
                ", ".join(f"{name} {size / MIB:.0f} MiB" for name, size in worker["gpuBytes"].items()),
                ", ".join(worker["models"]),
            )
    return table


def _worker(process: Process) -> dict[str, Any]:
    """The devices, models and jobs of the worker in a process; empty if there is none."""
    slots = process.value("stemtube_worker_slots")
    if not slots:
        return {}
    beat = process.value("stemtube_worker_beat_timestamp_seconds")
    return {
        "slots": int(slots),
        "busy": int(process.value("stemtube_worker_jobs") or 0),
        "silentSeconds": round(max(time.time() - beat, 0.0), 1) if beat else None,
        "memoryBytes": process.by("engine", "stemtube_engine_memory_bytes"),
        "gpuBytes": process.by("engine", "stemtube_gpu_memory_bytes", what="held"),
        "models": list(process.by("model", "stemtube_model_load_seconds_count")),
    }


def _describe(gpu: Gpu) -> str:
    users = ", ".join(f"{user.name} {user.memory_mib} MiB" for user in gpu.users)
    return (
        f"{gpu.name}: {gpu.used_mib} of {gpu.total_mib} MiB used ({users or 'by nobody'}), "
        f"CUDA {gpu.cuda_version}, driver {gpu.driver_version}"
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def as_json(processes: list[Process]) -> dict[str, Any]:
    """The same for programs; more numbers are on each process's /metrics."""
    states: dict[str, Any] = {}
    for process in processes:
        states[process.name] = {"state": process.state, "errors": list(process.errors)}
        if (queued := process.value("stemtube_queue_jobs", state="queued")) is not None:
            running = process.value("stemtube_queue_jobs", state="running") or 0
            oldest = process.value("stemtube_queue_oldest_seconds") or 0.0
            states[process.name]["queue"] = {"queued": int(queued), "running": int(running), "oldestSeconds": oldest}
        if worker := _worker(process):
            states[process.name]["worker"] = worker
    return {"processes": states, "gpus": [asdict(gpu) for gpu in find_gpus()]}
