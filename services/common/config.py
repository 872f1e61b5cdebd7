"""Settings: one frozen pydantic class per process, built in its `__main__` and passed down.

Values come, in this order of precedence, from environment variables (`STEMTUBE_DATA_DIR`, nested:
`STEMTUBE_SEPARATION__DATABASE_URL`), from files in `STEMTUBE_SECRETS_DIR` that are named like these variables, and from
`stemtube.toml` in the working directory (`STEMTUBE_CONFIG` names another file).
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
    """Splits `host:port`; an IPv6 host is in brackets.

    Raises:
        ValueError: it has another form.
    """
    parts = urlsplit(f"//{address}")
    if not parts.hostname or parts.port is None or parts.netloc != address or "@" in address:
        raise ValueError("must be host:port")
    return parts.hostname, parts.port


def _is_address(address: str) -> str:
    split_address(address)
    return address


ListenAddress = Annotated[str, AfterValidator(_is_address)]
"""host:port where a process listens; port 0 means any free port."""

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

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="lowest level that is logged")
    format: Literal["console", "json"] = Field("console", description="for people or for machines")
    file: str = Field(
        "",
        description="file to which log lines are also written; {process} is replaced by the process's name, e.g. "
        "/var/log/stemtube/{process}.log; processes with the same name on one machine need different files",
    )
    file_bytes: int = Field(10_000_000, ge=10_000, description="size at which the file is renamed to FILE.1")
    files_kept: int = Field(5, ge=1, description="number of older files that are kept")


class TracingSettings(Section):
    """Traces by OpenTelemetry."""

    otlp_url: str = Field(
        "",
        pattern=r"^(https?://.+)?$",
        description="collector of OTLP over HTTP, e.g. http://127.0.0.1:4318; empty: no traces. Its headers are read "
        "from OTEL_EXPORTER_OTLP_HEADERS",
    )
    share: float = Field(1.0, ge=0, le=1, description="share of traces that are kept")


class AddressSettings(Section):
    """The addresses of the services, host:port."""

    auth: str = Field("127.0.0.1:50051", description="the auth service")
    download: str = Field("127.0.0.1:50052", description="the download service (the library)")
    separation: str = Field("127.0.0.1:50053", description="the separation service")
    analysis: str = Field("127.0.0.1:50054", description="the analysis service")


class LimitSettings(Section):
    """Limits of a song. They must be the same in all processes, or one would refuse a song that another accepted."""

    max_seconds: float = Field(1800.0, gt=0, description="longest song")
    max_bytes: int = Field(500 * 1024 * 1024, gt=0, description="largest file")


class DecoderSettings(Section):
    """Limits of the process that decodes one file; they are more than any song within the size limit needs."""

    memory_mib: int = Field(512, ge=128, description="memory that decoding a file may take")
    cpu_seconds: int = Field(300, ge=1, description="computing time that decoding a file may take")
    wall_seconds: float = Field(900.0, gt=0, description="longest time to wait for a file's decoder")
    require_confinement: bool = Field(
        default_factory=can_confine,
        description="do not start, and decode nothing, if a decoder cannot be confined; false: only log a warning; "
        "default: true on Linux (x86_64, aarch64), false elsewhere",
    )


class NetworkSettings(Section):
    """Connections between processes, and limits of their clients."""

    tls_dir: Path | None = Field(
        None, description="ca.crt, tls.crt, tls.key: gRPC by mutual TLS only; `stemtube admin make-certs` makes some"
    )
    plain: bool = Field(False, description="serve gRPC without TLS even if other machines can reach it")
    trusted_proxies: Networks = Field(
        PRIVATE, description="networks of the gateways; a service believes the client addresses that these report"
    )
    auth_refresh_seconds: float = Field(
        30.0, gt=0, le=60, description="seconds after which a service asks auth again for keys and ended sessions"
    )
    requests_per_second: float = Field(100.0, gt=0, description="RPCs per second that a user may make in the long run")
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

    data_dir: Path = Field(Path("data"), description="databases, objects, models and secrets of a single machine")
    models_dir: Path | None = Field(None, description="model weights; empty: DATA_DIR/models")
    offline: bool = Field(False, description="never ask a model hub")
    service_secret: SecretStr = Field(
        SecretStr(""),
        description="secret by which services recognise each other; empty: DATA_DIR/secrets/service-secret, made at "
        "first use",
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
        """URL of a service's default database file; creates its folder."""
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
    """The secret in the file `path`, readable by its owner only. It is made at first use, also by racing processes.

    Raises:
        OSError: the file can be neither read nor made.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        write_private(draft, secrets.token_urlsafe(32))
        try:
            # Unlike a rename, a link does not replace the secret of a faster process.
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
    """Reads the settings of a process; a wrong setting ends the process with one line that names it."""
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
