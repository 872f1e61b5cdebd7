"""Settings of the auth service."""

from datetime import timedelta
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from services.common.config import ListenAddress, Section, Settings
from services.common.limits import MAX_PASSWORD, MAX_USERNAME, MIN_PASSWORD
from services.common.storage.database import DatabaseUrl


class AuthSection(Section):
    """Settings that only auth has."""

    listen: ListenAddress = Field("127.0.0.1:50051", description="where gRPC listens")
    health_listen: ListenAddress = Field("127.0.0.1:9091", description="where /healthz, /readyz and /metrics listen")
    database_url: DatabaseUrl = Field(
        SecretStr(""),
        description="sqlite:///file or postgresql://user@host/name; empty: DATA_DIR/databases/auth.sqlite",
    )
    admin_username: str = Field("admin", min_length=1, max_length=MAX_USERNAME, description="name of the first user")
    bcrypt_cost: int = Field(12, ge=4, le=18, description="base-2 logarithm of the work to hash a password")
    hashing_threads: int = Field(2, ge=1, le=64, description="passwords that are hashed at the same time")
    access_token_minutes: float = Field(15, gt=0, le=24 * 60, description="life of an access token")
    refresh_token_days: float = Field(30, gt=0, le=3650, description="days without a refresh that end a session")
    one_time_password_days: float = Field(7, gt=0, le=365, description="life of a one-time password")
    fresh_sign_in_minutes: float = Field(
        5, ge=0, le=60, description="minutes after a sign-in without a password for new API tokens; 0: always needed"
    )
    signing_key_days: float = Field(90, gt=0, le=3650, description="age at which the key of access tokens is replaced")
    registration: Literal["closed", "invitation", "open"] = Field(
        "closed", description="who can create an account: only admins, people with an invitation, or everybody"
    )

    @property
    def access_token_lifetime(self) -> timedelta:
        """Life of an access token."""
        return timedelta(minutes=self.access_token_minutes)

    @property
    def one_time_password_lifetime(self) -> timedelta:
        """Life of a one-time password."""
        return timedelta(days=self.one_time_password_days)

    @property
    def fresh_sign_in(self) -> timedelta:
        """How long after a sign-in no password is needed for a new API token."""
        return timedelta(minutes=self.fresh_sign_in_minutes)

    @property
    def signing_key_lifetime(self) -> timedelta:
        """How long access tokens are signed with one key."""
        return timedelta(days=self.signing_key_days)

    @property
    def refresh_token_lifetime(self) -> timedelta:
        """Life of a refresh token."""
        return timedelta(days=self.refresh_token_days)


class AuthSettings(Settings):
    """Settings of the auth service."""

    admin_password: SecretStr = Field(
        SecretStr(""),
        description="password of the first user, read at the very first start only; "
        "empty: a random one, in DATA_DIR/secrets/admin-password, that must be changed",
    )
    auth: AuthSection = AuthSection()

    @field_validator("admin_password")
    @classmethod
    def _has_fitting_length(cls, password: SecretStr) -> SecretStr:
        if password and not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
            raise ValueError(f"must have {MIN_PASSWORD} to {MAX_PASSWORD} characters")
        return password

    @property
    def database_url(self) -> str:
        """URL of auth's own database."""
        return self.auth.database_url.get_secret_value() or self.sqlite_url("auth")
