"""Settings of the gateway."""

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from services.common.config import ListenAddress, OptionalListenAddress, Section, Settings
from services.common.rpc.peers import LOOPBACK, Networks

MIB = 1024 * 1024


class GatewaySection(Section):
    """Settings of the gateway's public side."""

    listen: ListenAddress = Field("127.0.0.1:8080", description="host:port of HTTP")
    health_listen: OptionalListenAddress = Field(
        "127.0.0.1:9090",
        description="host:port of /healthz, /readyz, /metrics and /errors, for operators; empty: no metrics",
    )
    public_url: str = Field(
        "", description="address of the page for users, e.g. https://stems.example.org; https makes cookies Secure"
    )
    allowed_origins: tuple[str, ...] = Field(
        (), description="other origins whose pages may use the API (CORS), e.g. https://app.example.org"
    )
    trusted_proxies: Networks = Field(
        LOOPBACK, description="networks of trusted reverse proxies, which set X-Forwarded-For"
    )
    requests_per_second: float = Field(200.0, gt=0, description="requests per second from one address in the long run")
    request_burst: int = Field(4000, ge=1, description="requests from one address at once")
    connections_per_address: int = Field(1000, ge=1, description="connections that one address may have open")
    max_json_bytes: int = Field(MIB, gt=0, description="largest JSON body")
    max_buffered_events: int = Field(256, gt=0, description="events that wait for a slow client before it is dropped")
    max_buffered_event_bytes: int = Field(4 * MIB, gt=0, description="the same, by size")
    call_seconds: float = Field(20.0, gt=0, description="time limit of an ordinary request to a service")
    media_seconds: float = Field(120.0, gt=0, description="time limit for making a stem in another format")
    export_seconds: float = Field(600.0, gt=0, description="time limit for making the sound of an export")
    export_children: int = Field(4, ge=1, description="exports with sound made at the same time")
    export_children_per_user: int = Field(2, ge=1, description="exports with sound of one user made at the same time")
    upload_seconds: float = Field(2 * 3600.0, gt=0, description="time limit of a whole upload")
    body_idle_seconds: float = Field(30.0, gt=0, description="longest silence while a request's body arrives")
    keepalive_seconds: float = Field(
        75.0, gt=0, description="how long a connection is kept that is idle or does not complete a request"
    )
    stream_seconds: float = Field(1800.0, gt=0, description="lifetime of an event stream; clients then connect again")
    heartbeat_seconds: float = Field(20.0, gt=0, description="time between pings or comments on quiet event streams")
    page_errors: Literal["off", "debug", "info", "warning", "error"] = Field(
        "warning", description="level at which errors of the page in a browser are logged; off: they are refused"
    )
    shutdown_seconds: float = Field(3.0, gt=0, description="how long running requests may take to end at shutdown")

    @field_validator("public_url")
    @classmethod
    def _http_address(cls, value: str) -> str:
        if value and origin_of(value) is None:
            raise ValueError("not an http(s) address")
        return value

    @field_validator("allowed_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if origin_of(origin) != origin:
                raise ValueError(f"{origin!r} is not an origin such as https://app.example.org")
        return value

    @property
    def secure(self) -> bool:
        """Whether users reach the gateway over https."""
        return self.public_url.startswith("https://")

    @property
    def origins(self) -> frozenset[str]:
        """Other origins whose pages are trusted like the gateway's own."""
        own = origin_of(self.public_url)
        return frozenset((*self.allowed_origins, own) if own else self.allowed_origins)


class GatewaySettings(Settings):
    """The gateway's settings."""

    gateway: GatewaySection = GatewaySection()


def origin_of(url: str) -> str | None:
    """The origin (scheme, host, port) of an http(s) address; None for other texts."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.netloc:
        return None
    return f"{parts.scheme}://{parts.netloc}"
