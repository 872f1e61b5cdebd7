"""Settings of the separation service."""

from pydantic import Field

from services.common.config import Section, Settings


class SeparationSection(Section):
    """Settings of this service alone."""

    listen: str = Field("127.0.0.1:50053", description="address of gRPC")
    health_listen: str = Field("127.0.0.1:9093", description="address of /healthz, /readyz and /metrics")
    database_url: str = Field("", description="SQLite or PostgreSQL; empty: a file in DATA_DIR/databases")
    device: str = Field("auto", description="torch device: cpu, cuda, cuda:1 …; auto: a GPU if there is one")
    max_seconds: float = Field(1800.0, description="longest mix")
    grace_seconds: float = Field(5.0, description="time for the job in hand when the process is asked to end")
    idle_seconds: float = Field(600.0, description="models leave memory after so long without work")
    keep_days: float = Field(7.0, description="finished jobs are kept so long")


class SeparationSettings(Settings):
    """Settings of the separation process."""

    separation: SeparationSection = SeparationSection()

    @property
    def database_url(self) -> str:
        """URL of the queue's database."""
        return self.separation.database_url or self.sqlite_url("separation")
