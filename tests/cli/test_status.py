"""`stemtube status`, with the health address of a real process, and with recorded answers of nvidia-smi."""

import io
import json
import os
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import structlog
from rich.console import Console

from cli.local import gpus, status
from cli.local.gpus import find_gpus
from services.common.config import LogSettings
from services.common.jobs import metrics
from services.common.jobs.records import Backlog
from services.common.observe import telemetry
from tests.cli.test_command import ROOT, stemtube

SMI = """<?xml version="1.0" ?>
<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">
<nvidia_smi_log>
  <driver_version>570.86.15</driver_version>
  <cuda_version>12.8</cuda_version>
  <attached_gpus>1</attached_gpus>
  <gpu id="00000000:01:00.0">
    <product_name>NVIDIA L4</product_name>
    <fb_memory_usage><total>23034 MiB</total><reserved>559 MiB</reserved><used>1874 MiB</used></fb_memory_usage>
    <processes>
      <process_info>
        <pid>{pid}</pid><type>C</type><process_name>/usr/bin/python3</process_name><used_memory>1500 MiB</used_memory>
      </process_info>
      <process_info>
        <pid>0</pid><type>C</type><process_name>/opt/game</process_name><used_memory>N/A</used_memory>
      </process_info>
    </processes>
  </gpu>
</nvidia_smi_log>
"""


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n[ \"$*\" = '-q -x' ] && cat <<'END'\n{SMI.format(pid=os.getpid())}END\n")
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


def printed(processes: list[status.Process]) -> str:
    file = io.StringIO()
    status.show(processes, Console(file=file, width=200))
    return file.getvalue()


async def test_it_shows_processes_queues_and_the_last_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "ERRORS", type(telemetry.ERRORS)(maxlen=20))
    telemetry.configure_logging(LogSettings(level="error"), "separation")
    structlog.get_logger("here").error("job given up", job="j7", password="hunter2")
    structlog.reset_defaults()
    health = await telemetry.HealthServer.start("127.0.0.1:0")
    health.ready = True
    metrics.SLOTS.clear()  # errors of other tests in this process
    metrics.SLOTS.labels("separation").set(1)
    with (
        metrics.queue_metrics("separation", lambda: Backlog(queued=3, running=1, oldest_seconds=75.0)),
        socket.socket() as free,
    ):
        free.bind(("127.0.0.1", 0))  # nobody listens
        away = f"http://127.0.0.1:{free.getsockname()[1]}"
        processes = await status.ask({"separation": f"http://127.0.0.1:{health.port}", "auth": away})
    await health.stop()
    lines = printed(processes).splitlines()
    row, queue, worker = [line.split("│")[1:-1] for line in lines if "│ separation" in line]
    assert row[1].strip() == "ready"
    assert [cell.strip() for cell in queue[1:4]] == ["3", "1", "1 min 15 s"]
    assert worker[1].strip() == "0 of 1"
    assert any("auth" in line and "away" in line for line in lines)
    (error,) = (line for line in lines if "job given up" in line)
    assert "job=j7" in error
    assert "hunter2" not in "".join(lines)
    told = status.as_json(processes)["processes"]
    assert told["auth"] == {"state": "away", "errors": []}
    assert told["separation"]["queue"] == {"queued": 3, "running": 1, "oldestSeconds": 75.0}
    assert told["separation"]["worker"]["slots"] == 1


def test_it_shows_the_processes_that_use_a_gpu(gpu: None) -> None:
    (found,) = find_gpus()
    assert (found.name, found.cuda_version, found.total_mib, found.used_mib) == ("NVIDIA L4", "12.8", 23034, 1874)
    assert [(user.name, user.memory_mib) for user in found.users] == [("python3", 1500), ("game", 0)]
    assert "NVIDIA L4: 1874 of 23034 MiB used (python3 1500 MiB, game 0 MiB), CUDA 12.8" in printed([])


def test_it_does_not_wait_for_an_unresponsive_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nexec sleep 8\n")
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(gpus, "ASK_SECONDS", 0.2)
    # The kernel cannot end a process that waits for a device.
    monkeypatch.setattr(subprocess.Popen, "kill", lambda _process: None)
    began = time.monotonic()
    assert find_gpus() == []
    assert time.monotonic() - began < 6


def test_a_child_process_is_named_after_its_service() -> None:
    ask = "import os; from cli.local.gpus import _service; print(_service(str(os.getpid())))"
    start = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[2]], check=True)"
    command = [sys.executable, "-c", start, "services.separation", ask]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "separation"


def test_without_a_suite_every_process_is_away(tmp_path: Path) -> None:
    names = ("AUTH__HEALTH", "DOWNLOAD__HEALTH", "SEPARATION__HEALTH", "ANALYSIS__HEALTH", "GATEWAY_")
    places = {f"STEMTUBE_{name}_LISTEN": f"127.0.0.1:{port}" for port, name in enumerate(names, start=1)}
    done = stemtube("status", "--json", cwd=tmp_path, **places)
    assert done.returncode == 1
    states = {name: told["state"] for name, told in json.loads(done.stdout)["processes"].items()}
    assert states == dict.fromkeys(("auth", "download", "separation", "analysis", "gateway"), "away")
