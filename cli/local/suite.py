"""The suite on one machine: its five processes and their addresses."""

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import ConfigDict, SecretStr

from cli.local.supervisor import Part
from services.common.config import ListenAddress, OptionalListenAddress, Section, Settings, split_address

SERVICES = ("auth", "download", "separation", "analysis")
STOP_ORDER = {"gateway": 0, "download": 1, "separation": 2, "analysis": 2, "auth": 3}
LOG_BYTES, LOGS_KEPT = 10_000_000, 3
ANY_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class Place(Section):
    """The addresses of one process; the process reads its other settings itself."""

    model_config = ConfigDict(extra="ignore")

    listen: ListenAddress

    def moved(self, ports: Iterator[int], only_zeros: bool) -> Self:
        """The same with other ports, or with ports only instead of zeros."""
        addresses = {}
        for name in type(self).model_fields:
            if name.endswith("listen") and getattr(self, name) is not None:
                host, port = split_address(getattr(self, name))
                other = next(ports)
                addresses[name] = _host_and_port((host, port if port and only_zeros else other))
        return self.model_copy(update=addresses)


class ServicePlace(Place):
    """The addresses of a service."""

    health_listen: ListenAddress
    database_url: SecretStr = SecretStr("")


class WorkPlace(ServicePlace):
    """The settings of a service with jobs, for the supervisor."""

    # Shorter than on a cluster, because a user waits at the terminal; jobs continue at the next start.
    grace_seconds: float = 1.0


class AuthPlace(ServicePlace):
    """The settings of auth, for the supervisor."""

    admin_username: str = "admin"


class GatewayPlace(Place):
    """The settings of the gateway, for the supervisor."""

    health_listen: OptionalListenAddress = "127.0.0.1:9090"
    public_url: str = ""


class SuiteSettings(Settings):
    """The settings needed to run all processes together."""

    admin_password: SecretStr = SecretStr("")
    auth: AuthPlace = AuthPlace(listen="127.0.0.1:50051", health_listen="127.0.0.1:9091")
    download: WorkPlace = WorkPlace(listen="127.0.0.1:50052", health_listen="127.0.0.1:9092")
    separation: WorkPlace = WorkPlace(listen="127.0.0.1:50053", health_listen="127.0.0.1:9093")
    analysis: WorkPlace = WorkPlace(listen="127.0.0.1:50054", health_listen="127.0.0.1:9094")
    gateway: GatewayPlace = GatewayPlace(listen="127.0.0.1:8080")

    def at_ports(self, base: int | None) -> Self:
        """The same with fixed ports.

        Args:
            base: the gateway's port, followed by those of the services; 0 for free ports; None for those in the
                settings, where each 0 becomes a free port.

        Raises:
            ValueError: there are no such ports.
        """
        count = 1 + 2 * len(SERVICES) + (self.gateway.health_listen is not None)
        if base and not 1024 <= base <= 65536 - count:
            raise ValueError(f"the port base must be 0 or from 1024 to {65536 - count}")
        ports = iter(range(base, base + count) if base else free_ports(count))
        places: dict[str, Place] = {name: getattr(self, name) for name in ("gateway", *SERVICES)}
        return self.model_copy(update={name: place.moved(ports, base is None) for name, place in places.items()})

    @property
    def url(self) -> str:
        """The gateway's address as seen from this machine."""
        return f"http://{_host_and_port(_reachable(self.gateway.listen))}"

    @property
    def health_urls(self) -> dict[str, str]:
        """The health address of each process, by name."""
        places = {name: getattr(self, name).health_listen for name in SERVICES} | {
            "gateway": self.gateway.health_listen or self.gateway.listen
        }
        return {name: f"http://{_host_and_port(_reachable(listen))}" for name, listen in places.items()}

    @property
    def admin_password_file(self) -> Path:
        """The file in which auth leaves the first user's password."""
        return self.data_dir / "secrets" / "admin-password"

    @property
    def is_first_start(self) -> bool:
        """Whether there seems to be no account yet."""
        kept_here = not self.auth.database_url.get_secret_value()
        return kept_here and not (self.data_dir / "databases" / "auth.sqlite").exists()

    def parts(self, environment: Mapping[str, str]) -> list[Part]:
        """The five processes, in the order of starting.

        Args:
            environment: further variables, for example those of this process; addresses are set here.
        """
        common = {**environment, "PYTHONUNBUFFERED": "1", "STEMTUBE_DATA_DIR": str(self.data_dir.absolute())}
        if self.models_dir:
            common["STEMTUBE_MODELS_DIR"] = str(self.models_dir.absolute())
        for name in (*SERVICES, "gateway"):
            place: Place = getattr(self, name)
            common[f"STEMTUBE_{name.upper()}__LISTEN"] = place.listen
            if isinstance(place, GatewayPlace):
                common["STEMTUBE_GATEWAY__HEALTH_LISTEN"] = place.health_listen or ""
            if isinstance(place, ServicePlace):
                common[f"STEMTUBE_{name.upper()}__HEALTH_LISTEN"] = place.health_listen
                common[f"STEMTUBE_ADDRESS__{name.upper()}"] = _host_and_port(_reachable(place.listen))
            if isinstance(place, WorkPlace):
                common[f"STEMTUBE_{name.upper()}__GRACE_SECONDS"] = str(place.grace_seconds)
        # Only auth needs it.
        common.pop("STEMTUBE_ADMIN_PASSWORD", None)
        common.pop("STEMTUBE_NETWORK__TLS_DIR", None)
        return [self._part(name, common) for name in (*SERVICES, "gateway")]

    def _part(self, name: str, common: Mapping[str, str]) -> Part:
        place: Place = getattr(self, name)
        is_service = isinstance(place, ServicePlace)
        health = place.health_listen if isinstance(place, ServicePlace | GatewayPlace) else None
        listens = [place.listen, *([health] if health else [])]
        password, certificates = self.admin_password.get_secret_value(), self.network.tls_dir
        own = {"STEMTUBE_ADMIN_PASSWORD": password} if name == "auth" and password else {}
        if certificates:
            # `stemtube admin make-certs` makes a folder for each process.
            own["STEMTUBE_NETWORK__TLS_DIR"] = str((certificates / name).absolute())
        return Part(
            name=name,
            command=(sys.executable, "-m", "cli.local.child", f"services.{name}" if is_service else name),
            ready_url=f"http://{_host_and_port(_reachable(listens[-1]))}/readyz",
            addresses=[split_address(address) for address in listens],
            environment={**common, **own},
            stop_order=STOP_ORDER[name],
        )


def free_ports(count: int) -> list[int]:
    """Different ports of 127.0.0.1 on which no process listens now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for opened in sockets:
            opened.bind(("127.0.0.1", 0))
        return [int(opened.getsockname()[1]) for opened in sockets]


def log_file(path: Path) -> Callable[[str, str], None]:
    """A `show` function for a `Supervisor` that writes the output of the parts to a file of limited size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=LOGS_KEPT, encoding="utf-8")

    def write(name: str, line: str) -> None:
        handler.emit(logging.makeLogRecord({"msg": f"{name:<10} {line}"}))

    return write


def is_this_machine(url: str) -> bool:
    """Whether a URL leads to this machine."""
    return urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")


def own_environment() -> dict[str, str]:
    """This process's environment without StemTube's settings, except those of the machine: models and devices."""
    kept = ("STEMTUBE_OFFLINE", "STEMTUBE_SEPARATION__DEVICE", "STEMTUBE_ANALYSIS__DEVICE")
    return {name: value for name, value in os.environ.items() if not name.startswith("STEMTUBE_") or name in kept}


def _reachable(listen: str) -> tuple[str, int]:
    host, port = split_address(listen)
    return ANY_HOST.get(host, host), port


def _host_and_port(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
