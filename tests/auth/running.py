"""A real auth service in this process, for its own tests and others that need one."""

import contextlib
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc.aio

from services.auth.app import open_auth
from services.auth.config import AuthSection, AuthSettings
from services.common.rpc.auth import bearer
from services.common.rpc.client import open_channel
from services.common.rpc.draining import Draining
from services.common.rpc.server import RunningServer, start
from stemtube.auth.v1 import access_token_pb2, account_pb2, session_pb2, user_pb2
from stemtube.auth.v1.access_token_pb2_grpc import AccessTokenServiceStub
from stemtube.auth.v1.account_pb2_grpc import AccountServiceStub
from stemtube.auth.v1.api_token_pb2_grpc import ApiTokenServiceStub
from stemtube.auth.v1.import_pb2_grpc import UserImportServiceStub
from stemtube.auth.v1.invitation_pb2_grpc import InvitationServiceStub
from stemtube.auth.v1.session_pb2_grpc import SessionServiceStub
from stemtube.auth.v1.user_pb2_grpc import UserServiceStub

ADMIN_PASSWORD = "correct horse battery staple"
STUBS = (
    SessionServiceStub,
    AccountServiceStub,
    ApiTokenServiceStub,
    AccessTokenServiceStub,
    UserServiceStub,
    InvitationServiceStub,
    UserImportServiceStub,
)


def auth_settings(data_dir: Path, admin_password: str = ADMIN_PASSWORD, **auth: Any) -> AuthSettings:
    """Settings of an auth service on free ports, with the cheapest password hashes."""
    section = {"listen": "127.0.0.1:0", "health_listen": "127.0.0.1:0", "bcrypt_cost": 4} | auth
    return AuthSettings(data_dir=data_dir, admin_password=admin_password, auth=AuthSection(**section))


@dataclass
class RunningAuth:
    """A running auth service."""

    settings: AuthSettings
    server: RunningServer
    channel: grpc.aio.Channel

    @property
    def stub(self) -> Any:
        """All RPCs of auth, whichever gRPC service has them, by name."""
        stubs: list[Any] = [stub(self.channel) for stub in STUBS]
        return SimpleNamespace(**{name: call for stub in stubs for name, call in vars(stub).items()})

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    async def login(self, username: str = "admin", password: str = ADMIN_PASSWORD) -> session_pb2.Session:
        request = session_pb2.LoginRequest(username=username, password=password)
        answer: session_pb2.LoginResponse = await self.stub.Login(request, timeout=20)
        return answer.session

    async def refresh(self, refresh_token: str) -> session_pb2.Session:
        request = session_pb2.RefreshRequest(refresh_token=refresh_token)
        answer: session_pb2.RefreshResponse = await self.stub.Refresh(request, timeout=20)
        return answer.session

    async def logout(self, refresh_token: str) -> None:
        await self.stub.Logout(session_pb2.LogoutRequest(refresh_token=refresh_token), timeout=20)

    async def me(self, access_token: str | None) -> user_pb2.User:
        metadata = () if access_token is None else bearer(access_token)
        answer: account_pb2.GetMeResponse = await self.stub.GetMe(
            account_pb2.GetMeRequest(), metadata=metadata, timeout=20
        )
        return answer.user

    async def service_token(self, service: str, secret: str) -> str:
        request = access_token_pb2.IssueServiceTokenRequest(service=service, secret=secret)
        answer: access_token_pb2.IssueServiceTokenResponse = await self.stub.IssueServiceToken(request, timeout=20)
        return answer.access_token


def database_file(auth: RunningAuth) -> sqlite3.Connection:
    """The service's database."""
    return sqlite3.connect(auth.settings.data_dir / "databases" / "auth.sqlite")


@contextlib.asynccontextmanager
async def running_auth(settings: AuthSettings) -> AsyncIterator[RunningAuth]:
    """Starts an auth service and stops it at the end."""
    async with open_auth(settings) as (service, verifier):
        server = await start(
            service,
            listen=settings.auth.listen,
            health_listen=settings.auth.health_listen,
            verifier=verifier,
            draining=Draining(),
        )
        try:
            async with open_channel(f"127.0.0.1:{server.port}") as channel:
                yield RunningAuth(settings, server, channel)
        finally:
            await server.stop(1)
