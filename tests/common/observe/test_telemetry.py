"""Logs in files, traces without a collector, and metrics of memory."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import REGISTRY

from services.common.compute import metrics
from services.common.config import TracingSettings
from services.common.errors import PreconditionError
from services.common.observe import tracing
from tests.suite.collector import running_collector

ROOT = Path(__file__).parents[3]
LINES, CHILDS = 120, 12
PROGRAM = f"""
import asyncio, sys
import structlog
from services.common.observe import telemetry
from services.common.config import LogSettings
from services.common.compute.engine import Engine
import services.common.jobs.queue, services.common.rpc.server
from tests.common.compute.engine_work import Work

async def main():
    settings = LogSettings(format="json", file=sys.argv[1] + "/{{process}}.log", file_bytes=10_000, files_kept=9)
    telemetry.configure_logging(settings, "parent")
    engine = Engine("child", Work, "plain", settings)
    for number in range({LINES}):
        structlog.get_logger("here").info("from the parent", number=number, filling="x" * 300)
        if number % ({LINES} // {CHILDS}) == 0:
            await engine.run({{"do": "say"}}, lambda *_, **__: None)
    await engine.close()
    print("opentelemetry.sdk" in sys.modules)

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_no_line_of_parent_or_child_is_lost_when_log_files_rotate(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/protos/gen"}
    command = [sys.executable, str(script), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False", "OpenTelemetry is loaded although there is no collector"
    files = sorted(tmp_path.glob("parent.log*"))
    assert 4 <= len(files) <= 10
    assert all(path.stat().st_size < 11_000 for path in files)
    lines = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    told = [line["number"] for line in lines if line["event"] == "from the parent"]
    assert sorted(told) == list(range(LINES))
    childs = [line for line in lines if line["event"] == "from the child"]
    assert [line["service"] for line in childs] == ["child"] * CHILDS
    assert len(done.stderr.splitlines()) == len(lines)


def test_a_missing_package_for_traces_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    monkeypatch.delitem(sys.modules, "services.common.observe.otlp", raising=False)
    with pytest.raises(PreconditionError, match=r"pip install 'stemtube\[tracing\]'"):
        tracing.configure_tracing(TracingSettings(otlp_url="http://127.0.0.1:1"), "here")
    tracing.configure_tracing(TracingSettings(), "here")
    with tracing.span("nothing") as span:
        span.set_attribute("colour", "red")
        assert tracing.traceparent() == tracing.trace_id() == ""


def test_a_trace_has_the_class_of_an_error_but_not_its_text() -> None:
    with running_collector() as collector:
        tracing.configure_tracing(TracingSettings(otlp_url=collector.url), "here")
        with pytest.raises(ValueError, match="hunter2"), tracing.span("outer"), tracing.span("inner", part="key"):
            raise ValueError("hunter2")
        with pytest.raises(asyncio.CancelledError), tracing.span("left"):
            raise asyncio.CancelledError
        tracing.configure_tracing(TracingSettings(), "here")
    outer, inner, left = (collector.named(name)[0] for name in ("outer", "inner", "left"))
    assert (inner.parent, inner.facts) == (outer.id, {"part": "key"})
    assert {(span.failed, span.reason, span.events) for span in (outer, inner)} == {(True, "ValueError", 0)}
    assert (left.failed, left.facts) == (False, {"cancelled": "True"})


def test_memory_is_reported_as_long_as_its_process_lives() -> None:
    command = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        metrics.watch_engine("engine", child.pid)
        metrics.note("gpu_memory", 7.0, {"engine": "engine", "what": "held"})
        labels = {"engine": "engine"}
        assert (REGISTRY.get_sample_value("stemtube_engine_memory_bytes", labels) or 0) > 100_000
        assert REGISTRY.get_sample_value("stemtube_gpu_memory_bytes", labels | {"what": "held"}) == 7
    assert REGISTRY.get_sample_value("stemtube_engine_memory_bytes", labels) == 0
    assert REGISTRY.get_sample_value("stemtube_gpu_memory_bytes", labels | {"what": "held"}) is None
    metrics.forget_engine("engine", child.pid)
    assert REGISTRY.get_sample_value("stemtube_engine_memory_bytes", labels) is None


def test_gpu_memory_is_reported_unless_a_task_broke_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> tuple[int, int]:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    cuda = SimpleNamespace(
        is_initialized=lambda: True,
        mem_get_info=lambda: (60, 80),
        memory_reserved=lambda: 10,
        max_memory_allocated=lambda: 15,
        reset_peak_memory_stats=lambda: None,
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert metrics.gpu_memory() == {"held": 10, "most": 15, "used": 20, "total": 80}
    cuda.mem_get_info = broken
    assert metrics.gpu_memory() == {}
    cuda.is_initialized = lambda: False
    assert metrics.gpu_memory() == {}
