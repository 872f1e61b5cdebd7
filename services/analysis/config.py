"""Settings of the analysis service."""

from pydantic import Field, SecretStr

from services.common.config import ListenAddress, Section, Settings
from services.common.database import DatabaseUrl


class AnalysisSection(Section):
    """Settings of this service alone."""

    listen: ListenAddress = Field("127.0.0.1:50054", description="where gRPC listens")
    health_listen: ListenAddress = Field("127.0.0.1:9094", description="where /healthz, /readyz and /metrics listen")
    database_url: DatabaseUrl = Field(
        SecretStr(""),
        description="sqlite:///file or postgresql://user@host/name; empty: DATA_DIR/databases/analysis.sqlite",
    )
    device: str = Field(
        "auto",
        description="for models that can use a GPU: cpu, cuda; auto: a GPU if there is one. Where the API and the work "
        "are on different machines, the API's setting tells what the workers have",
    )
    grace_seconds: float = Field(5.0, description="time for the job in hand when the process is asked to end")
    idle_seconds: float = Field(600.0, description="models leave memory after so long without work")
    keep_days: float = Field(7.0, description="finished jobs are kept so long")


class AnalysisSettings(Settings):
    """Settings of the analysis process."""

    analysis: AnalysisSection = AnalysisSection()

    @property
    def database_url(self) -> str:
        """URL of the queue's database."""
        return self.analysis.database_url.get_secret_value() or self.sqlite_url("analysis")
