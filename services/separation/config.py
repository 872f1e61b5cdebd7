"""Settings of the separation service."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr

from services.common.compute.devices import AUTO, CPU, gpu_files
from services.common.config import ListenAddress, Section, Settings
from services.common.storage.database import DatabaseUrl
from services.common.weights.catalogue import parse_order
from services.separation.models import registry


def _is_order(text: str) -> str:
    registry.check_order(parse_order(text))
    return text


class SeparationSection(Section):
    """Settings of this service alone."""

    listen: ListenAddress = Field("127.0.0.1:50053", description="where gRPC listens")
    health_listen: ListenAddress = Field("127.0.0.1:9093", description="where /healthz, /readyz and /metrics listen")
    database_url: DatabaseUrl = Field(
        SecretStr(""),
        description="sqlite:///file or postgresql://user@host/name; empty: DATA_DIR/databases/separation.sqlite",
    )
    device: str = Field(
        "auto",
        description="torch devices: cpu, cuda, or several (cuda:0,cuda:1), each with its own process and one job at a "
        "time; auto: all GPUs that torch can use when the process starts, else the CPU",
    )
    auto: Annotated[str, AfterValidator(_is_order)] = Field(
        "", description="models that `auto` tries, best first, separated by commas; empty: the built-in order"
    )
    licences: str = Field(
        "",
        description="licences that `auto` may take beside those that allow every use, separated by commas, such as "
        "CC-BY-NC-SA-4.0, not stated",
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="arithmetic of the networks; auto: bfloat16 if the device supports it, else its fastest"
    )
    memory_gib: float = Field(
        0.0, ge=0, description="GPU memory that a separation may use; 0: three quarters of the free memory"
    )
    grace_seconds: float = Field(5.0, description="time for the running job when the process is asked to end")
    idle_seconds: float = Field(600.0, description="time without work after which models are unloaded")
    maintenance_seconds: float = Field(3600.0, gt=0, description="time between two rounds of maintenance")
    keep_days: float = Field(7.0, description="how long finished jobs are kept")

    @property
    def devices(self) -> list[str]:
        """Names of the devices. GPUs are counted by their device files, because only child processes import torch."""
        if self.device != AUTO:
            return [name.strip() for name in self.device.split(",")]
        gpus = len(list(Path("/dev").glob("nvidia[0-9]*")))
        if gpus > 1:
            return [f"{AUTO}:{number}" for number in range(gpus)]
        return [AUTO if gpu_files() else CPU]


class SeparationSettings(Settings):
    """Settings of the separation process."""

    separation: SeparationSection = SeparationSection()

    @property
    def database_url(self) -> str:
        """URL of the queue's database."""
        return self.separation.database_url.get_secret_value() or self.sqlite_url("separation")
