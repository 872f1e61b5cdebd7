"""The whole suite in real processes on free ports: four services and the gateway."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
PASSWORD = "correct horse battery"
SERVICES = ("auth", "download", "separation", "analysis")
EXTRA_WORKERS = ("separation-work", "analysis-work")
# Names of further processes: service[-role][-number], with a number if several have the same role.
ROLES = (*EXTRA_WORKERS, "separation-serve", "analysis-serve", "separation-work-2")
SECOND = ("auth-2", "download-2", "separation-serve-2", "analysis-serve-2", "gateway-2")
# Small limits, so that tests of them are quick.
MAX_SECONDS, MAX_BYTES = 100, 24_000_000
PATIENCE_SECONDS = 120  # far more than a process needs to start or to end, unless the machine is overloaded


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for opened in sockets:
        opened.bind(("127.0.0.1", 0))
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


class EndedError(Exception):
    """A process ended while starting."""


@dataclass
class Suite:
    """Starts and ends processes; `data` holds their state and logs."""

    data: Path
    ports: dict[str, int] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        served = (*SERVICES, "gateway", *SECOND)
        names = [*served, *(f"{name}-health" for name in (*SERVICES, "gateway", *ROLES, *SECOND))]
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        variables = {
            "DATA_DIR": self.data,
            "OFFLINE": "true",
            "ANALYSIS__PREPARE": "false",  # no test measures the first song, but each would have to load models
            "ADMIN_PASSWORD": PASSWORD,
            "AUTH__BCRYPT_COST": 4,
            "NETWORK__AUTH_REFRESH_SECONDS": 2,
            "DOWNLOAD__JOBS_PER_USER": 20,
            "LIMIT__MAX_SECONDS": MAX_SECONDS,
            "LIMIT__MAX_BYTES": MAX_BYTES,
            "DOWNLOAD__ALLOWED_HOSTS": '["127.0.0.1"]',
            "GATEWAY__LISTEN": f"127.0.0.1:{self.ports['gateway']}",
            "GATEWAY__HEALTH_LISTEN": f"127.0.0.1:{self.ports['gateway-health']}",
        }
        for name in SERVICES:
            variables[f"ADDRESS__{name.upper()}"] = f"127.0.0.1:{self.ports[name]}"
            variables[f"{name.upper()}__LISTEN"] = f"127.0.0.1:{self.ports[name]}"
            variables[f"{name.upper()}__HEALTH_LISTEN"] = f"127.0.0.1:{self.ports[f'{name}-health']}"
        settings = {f"STEMTUBE_{name}": str(value) for name, value in {**variables, **self.settings}.items()}
        self.environment = {**os.environ, **settings, "PYTHONPATH": "protos/gen", "OMP_NUM_THREADS": "2"}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['gateway']}"

    def start(self, *names: str, patience_seconds: float = PATIENCE_SECONDS) -> None:
        for name in names:
            log = (self.data / f"{name}.log").open("ab")
            service, role = (*(word for word in name.split("-") if not word.isdigit()), "")[:2]
            command = [
                sys.executable,
                "-m",
                service if service == "gateway" else f"services.{service}",
                *([role] if role else []),
            ]
            environment, section = self.environment, f"STEMTUBE_{service.upper()}__"
            if name in self.ports:
                environment = environment | {f"{section}LISTEN": f"127.0.0.1:{self.ports[name]}"}
            if name != service:
                environment = environment | {f"{section}HEALTH_LISTEN": f"127.0.0.1:{self.ports[f'{name}-health']}"}
            self.processes[name] = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
            log.close()
        for name in names:
            port = self.ports[f"{name}-health"]
            self._await(f"http://127.0.0.1:{port}/readyz", name, patience_seconds)

    def _await(self, url: str, name: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.processes[name].poll() is not None:
                raise EndedError(f"{name} ended:\n" + self.log(name))
            try:
                with urllib.request.urlopen(url, timeout=2):
                    return
            except OSError:
                time.sleep(0.1)
        raise TimeoutError(f"{name} is not ready:\n" + self.log(name))

    def log(self, name: str) -> str:
        """The end of a process's log."""
        return (self.data / f"{name}.log").read_text()[-3000:]

    def end(self, name: str) -> int:
        """Asks a process to end, as Kubernetes does, and waits for it; returns its exit status."""
        self.processes[name].send_signal(signal.SIGTERM)
        return self.processes[name].wait(PATIENCE_SECONDS)

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()

    def stop(self, seconds: float = 15) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for name, process in self.processes.items():
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                raise AssertionError(f"{name} did not end within {seconds:.0f} s of SIGTERM") from None
