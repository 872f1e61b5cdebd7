"""A real auth service in this process, for tests of it and of those who need one."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio

from services.auth.app import open_auth
from services.auth.config import AuthSection, AuthSettings
from services.common.rpc.auth import bearer
from services.common.rpc.client import open_channel
from services.common.rpc.draining import Draining
from services.common.rpc.server import RunningServer, start
from stemtube.auth.v1 import auth_pb2, auth_pb2_grpc

ADMIN_PASSWORD = "correct horse battery staple"


def auth_settings(data_dir: Path, admin_password: str = ADMIN_PASSWORD, **auth: Any) -> AuthSettings:
    """Settings of an auth service on free ports, with the cheapest password hashes."""
    section = {"listen": "127.0.0.1:0", "health_listen": "127.0.0.1:0", "bcrypt_cost": 4} | auth
    return AuthSettings(data_dir=data_dir, admin_password=admin_password, auth=AuthSection(**section))


@dataclass
class RunningAuth:
    """An auth service that answers."""

    settings: AuthSettings
    server: RunningServer
    channel: grpc.aio.Channel

    @property
    def stub(self) -> "auth_pb2_grpc.AuthServiceAsyncStub":
        return auth_pb2_grpc.AuthServiceStub(self.channel)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    async def login(self, username: str = "admin", password: str = ADMIN_PASSWORD) -> auth_pb2.Session:
        answer = await self.stub.Login(auth_pb2.LoginRequest(username=username, password=password), timeout=20)
        return answer.session

    async def refresh(self, refresh_token: str) -> auth_pb2.Session:
        return (await self.stub.Refresh(auth_pb2.RefreshRequest(refresh_token=refresh_token), timeout=20)).session

    async def logout(self, refresh_token: str) -> None:
        await self.stub.Logout(auth_pb2.LogoutRequest(refresh_token=refresh_token), timeout=20)

    async def me(self, access_token: str | None) -> auth_pb2.User:
        metadata = () if access_token is None else bearer(access_token)
        return (await self.stub.GetMe(auth_pb2.GetMeRequest(), metadata=metadata, timeout=20)).user

    async def service_token(self, service: str, secret: str) -> str:
        request = auth_pb2.IssueServiceTokenRequest(service=service, secret=secret)
        return (await self.stub.IssueServiceToken(request, timeout=20)).access_token


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
