"""Settings of the analysis service."""

from typing import Self

from pydantic import Field, SecretStr, model_validator

from services.analysis.backends import registry
from services.analysis.backends.base import Endpoint
from services.common.config import ListenAddress, Section, Settings
from services.common.parts import PARTS
from services.common.storage.database import DatabaseUrl
from services.common.weights.catalogue import parse_order

ORDER_HELP = "best first: NAME or NAME/MODEL, with @gpu or @cpu for that device only; empty: the built-in order"


class LanguageModelSettings(Section):
    """A language model that names sections of songs."""

    url: str = Field(
        "",
        pattern=r"^(https?://.+)?$",
        description="base URL of an OpenAI-compatible endpoint, e.g. http://127.0.0.1:11434/v1; empty: none is asked",
    )
    model: str = Field("", description="the model's name there")
    api_key: SecretStr = Field(SecretStr(""), description="the endpoint's key, if it needs one")
    timeout_seconds: float = Field(60.0, gt=0, description="longest wait for an answer")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if bool(self.url) != bool(self.model):
            raise ValueError("url and model are set together")
        return self

    @property
    def endpoint(self) -> Endpoint | None:
        """The language model for backends; None if none is set."""
        if not self.url:
            return None
        return Endpoint(self.url, self.model, self.api_key.get_secret_value(), self.timeout_seconds)


class AutoSettings(Section):
    """The names that `auto` tries for each part, separated by commas."""

    beats: str = Field("", description=f"backends for beats, {ORDER_HELP}")
    key: str = Field("", description=f"backends for the key, {ORDER_HELP}")
    chords: str = Field("", description=f"backends for chords, {ORDER_HELP}")
    structure: str = Field("", description=f"backends for sections, {ORDER_HELP}")
    lyrics: str = Field("", description=f"backends for lyrics, {ORDER_HELP}")
    tuning: str = Field("", description=f"backends for the tuning, {ORDER_HELP}")

    @model_validator(mode="after")
    def _names_what_there_is(self) -> Self:
        registry.check_order(self.order)
        return self

    @property
    def order(self) -> registry.Order:
        """The order by part, for `registry.choose`."""
        return {part: parse_order(getattr(self, part)) for part in PARTS}


class AnalysisSection(Section):
    """Settings that only analysis has."""

    listen: ListenAddress = Field("127.0.0.1:50054", description="where gRPC listens")
    health_listen: ListenAddress = Field("127.0.0.1:9094", description="where /healthz, /readyz and /metrics listen")
    database_url: DatabaseUrl = Field(
        SecretStr(""),
        description="sqlite:///file or postgresql://user@host/name; empty: DATA_DIR/databases/analysis.sqlite",
    )
    device: str = Field(
        "auto",
        description="for models that can use a GPU: cpu, cuda; auto: a GPU if there is one. If the API and the workers "
        "are on different machines, give the API the setting of the workers",
    )
    grace_seconds: float = Field(5.0, description="time for running jobs to end when the process is stopped")
    idle_seconds: float = Field(600.0, description="time without work after which models are removed from memory")
    prepare: bool = Field(True, description="whether a worker loads its models at its start, before the first job")
    keep_days: float = Field(7.0, description="how long finished jobs are kept")
    language_model: LanguageModelSettings = LanguageModelSettings()
    auto: AutoSettings = AutoSettings()


class AnalysisSettings(Settings):
    """Settings of the analysis process."""

    analysis: AnalysisSection = AnalysisSection()

    @property
    def database_url(self) -> str:
        """URL of the queue's database."""
        return self.analysis.database_url.get_secret_value() or self.sqlite_url("analysis")
