"""Settings: one frozen pydantic class per process, built in its `__main__` and passed down.

Values come, strongest first, from the environment (`STEMTUBE_DATA_DIR`, nested `STEMTUBE_SEPARATION__DATABASE_URL`),
from files named after the variable in `STEMTUBE_SECRETS_DIR`, and from `stemtube.toml` in the working directory
(another file: `STEMTUBE_CONFIG`).
"""

import os
import secrets
import sys
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from services.common.compute.confinement import can_confine
from services.common.rpc.peers import PRIVATE, Networks

PREFIX = "STEMTUBE_"


def split_address(address: str) -> tuple[str, int]:
    """Host and port of a `host:port`; an IPv6 host stands in brackets.

    Raises:
        ValueError: it is something else.
    """
    parts = urlsplit(f"//{address}")
    if not parts.hostname or parts.port is None or parts.netloc != address or "@" in address:
        raise ValueError("must be host:port")
    return parts.hostname, parts.port


def _is_address(address: str) -> str:
    split_address(address)
    return address


ListenAddress = Annotated[str, AfterValidator(_is_address)]
"""host:port where a process listens; port 0 takes any that is free."""

OptionalListenAddress = Annotated[ListenAddress | None, BeforeValidator(lambda address: address or None)]
"""The same, or empty."""


class Section(BaseModel):
    """A group of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StorageSettings(Section):
    """The store of audio objects."""

    url: str = Field("", description="file:///path or s3://bucket/prefix; empty: DATA_DIR/objects")
    endpoint: str = Field("", description="endpoint of an S3-compatible server, e.g. http://127.0.0.1:8333")
    region: str = Field("us-east-1", description="region of the S3 bucket")
    access_key: SecretStr = Field(SecretStr(""), description="S3 access key; empty: the environment's own credentials")
    secret_key: SecretStr = Field(SecretStr(""), description="S3 secret key")


class LogSettings(Section):
    """Settings of logs."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")
    format: Literal["console", "json"] = Field("console", description="for people or for machines")
    file: str = Field(
        "",
        description="file that lines are written to as well, {process} stands for the process's name, e.g. "
        "/var/log/stemtube/{process}.log; processes of one name on one machine need different ones",
    )
    file_bytes: int = Field(10_000_000, ge=10_000, description="size at which the file is put aside as FILE.1")
    files_kept: int = Field(5, ge=1, description="files that are kept beside the present one")


class TracingSettings(Section):
    """Traces by OpenTelemetry."""

    otlp_url: str = Field(
        "",
        pattern=r"^(https?://.+)?$",
        description="collector of OTLP over HTTP, e.g. http://127.0.0.1:4318; empty: no traces. Headers that it wants "
        "are read from OTEL_EXPORTER_OTLP_HEADERS",
    )
    share: float = Field(1.0, ge=0, le=1, description="of the traces that are kept")


class AddressSettings(Section):
    """The addresses of the services, host:port."""

    auth: str = Field("127.0.0.1:50051", description="the auth service")
    download: str = Field("127.0.0.1:50052", description="the download service (the library)")
    separation: str = Field("127.0.0.1:50053", description="the separation service")
    analysis: str = Field("127.0.0.1:50054", description="the analysis service")


class LimitSettings(Section):
    """Limits of a song, for all processes: one with other limits would refuse a song that another has accepted."""

    max_seconds: float = Field(1800.0, gt=0, description="longest song")
    max_bytes: int = Field(500 * 1024 * 1024, gt=0, description="largest file")


class DecoderSettings(Section):
    """Limits of the process that decodes one file; more than any song of the largest size needs."""

    memory_mib: int = Field(512, ge=128, description="memory that decoding a file may take")
    cpu_seconds: int = Field(300, ge=1, description="computing time that decoding a file may take")
    wall_seconds: float = Field(900.0, gt=0, description="time that is waited for a file's decoder")
    require_confinement: bool = Field(
        default_factory=can_confine,
        description="do not start, and decode nothing, where a decoder cannot be confined; unless given true on Linux "
        "(x86_64, aarch64), and a warning elsewhere",
    )


class NetworkSettings(Section):
    """Connections between processes, and limits of their clients."""

    tls_dir: Path | None = Field(
        None, description="ca.crt, tls.crt, tls.key: gRPC by mutual TLS only; `stemtube admin make-certs` makes some"
    )
    plain: bool = Field(False, description="serve gRPC without TLS also where other machines can reach it")
    trusted_proxies: Networks = Field(
        PRIVATE, description="networks of the gateways, whose word on their clients' addresses a service takes"
    )
    auth_refresh_seconds: float = Field(
        30.0, gt=0, le=60, description="age at which a service asks auth again for keys and ended sessions"
    )
    requests_per_second: float = Field(100.0, gt=0, description="RPCs that a user may make in the long run")
    request_burst: int = Field(2000, ge=1, description="RPCs that a user may make at once")
    streams_per_user: int = Field(1500, ge=1, description="streams that a user may have open at once")


class Settings(BaseSettings):
    """Settings of every process."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        frozen=True,
        extra="ignore",
        nested_model_default_partial_update=True,
    )

    data_dir: Path = Field(Path("data"), description="databases, objects, models, secrets of a single machine")
    models_dir: Path | None = Field(None, description="model weights; empty: DATA_DIR/models")
    offline: bool = Field(False, description="never ask a model hub")
    service_secret: SecretStr = Field(
        SecretStr(""),
        description="proves services to each other; empty: DATA_DIR/secrets/service-secret, made at first use",
    )
    storage: StorageSettings = StorageSettings()
    log: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()
    address: AddressSettings = AddressSettings()
    limit: LimitSettings = LimitSettings()
    decoder: DecoderSettings = DecoderSettings()
    network: NetworkSettings = NetworkSettings()

    @property
    def weights_dir(self) -> Path:
        """Directory of the model weights."""
        return self.models_dir or self.data_dir / "models"

    @property
    def storage_url(self) -> str:
        """URL of the object store."""
        return self.storage.url or (self.data_dir / "objects").absolute().as_uri()

    def sqlite_url(self, name: str, driver: str = "sqlite") -> str:
        """URL of the database file that a service uses unless told otherwise; its folder is created."""
        folder = self.data_dir.absolute() / "databases"
        folder.mkdir(parents=True, exist_ok=True)
        return f"{driver}:///{folder / name}.sqlite"

    def shared_service_secret(self) -> str:
        """The secret that the services of this installation share."""
        return self.service_secret.get_secret_value() or secret_file(self.data_dir / "secrets" / "service-secret")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment, then secret files, then the TOML file."""
        sources = [init_settings, env_settings]
        if folder := os.environ.get(PREFIX + "SECRETS_DIR"):
            sources.append(
                NestedSecretsSettingsSource(
                    file_secret_settings,
                    secrets_dir=folder,
                    secrets_dir_missing="error",
                    secrets_prefix=PREFIX,
                    secrets_nested_delimiter="__",
                )
            )
        file = os.environ.get(PREFIX + "CONFIG")
        if file and not Path(file).is_file():
            raise SettingsError(f"{PREFIX}CONFIG: no file {file}")
        sources.append(TomlConfigSettingsSource(settings_cls, file or "stemtube.toml"))
        return tuple(sources)


def secret_file(path: Path) -> str:
    """The secret kept in `path`, readable by its owner only; made at first use, by one of several racing processes.

    Raises:
        OSError: it can neither be read nor be made.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        write_private(draft, secrets.token_urlsafe(32))
        try:
            # A link, unlike a rename, leaves the secret of a faster process in place.
            with suppress(FileExistsError):
                os.link(draft, path)
        finally:
            draft.unlink()
    return path.read_text().strip()


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner can read, even if others could read an earlier one."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


SettingsType = TypeVar("SettingsType", bound=Settings)


def load(cls: type[SettingsType]) -> SettingsType:
    """Reads the settings of a process; a wrong one ends the process with one line that names it."""
    try:
        return cls()
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        name = PREFIX + "__".join(str(part) for part in first["loc"]).upper()
        sys.exit(f"stemtube: wrong setting {name}: {first['msg'].removeprefix('Value error, ')}")
    except (SettingsError, tomllib.TOMLDecodeError, OSError) as error:
        sys.exit(f"stemtube: wrong settings: {' '.join(str(error).split())}")


def describe(cls: type[BaseModel], prefix: str = PREFIX) -> Iterator[str]:
    """Two lines per setting, with default and meaning, for `--help`."""
    for name, setting in cls.model_fields.items():
        variable = prefix + name.upper()
        if isinstance(setting.annotation, type) and issubclass(setting.annotation, Section):
            yield from describe(setting.annotation, variable + "__")
        else:
            default = setting.get_default(call_default_factory=True, validated_data={})
            shown = default.get_secret_value() if isinstance(default, SecretStr) else default
            yield f"  {variable}={'' if shown is None else shown}\n      {setting.description}"
