"""Calls of auth's RPCs by admins, users and strangers."""

from collections.abc import Awaitable
from typing import Any

import grpc.aio
import pytest

from services.common.errors import Code
from services.common.rpc.auth import bearer
from services.common.rpc.client import RemoteError, domain_error
from stemtube.auth.v1 import access_token_pb2, account_pb2, api_token_pb2, invitation_pb2, session_pb2, user_pb2
from tests.auth.running import RunningAuth, database_file

PASSWORD = "a rather long secret"
CONTRACTS = (session_pb2, account_pb2, api_token_pb2, access_token_pb2, user_pb2, invitation_pb2)


async def refusal(call: Awaitable[Any]) -> tuple[Code, str]:
    """The status code and the reason of an RPC's error."""
    error = await refused(call)
    return error.code, error.reason


async def refused(call: Awaitable[Any]) -> RemoteError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return domain_error(caught.value)


class Caller:
    """Calls auth's RPCs with one access token."""

    def __init__(self, auth: RunningAuth, session: session_pb2.Session) -> None:
        self.auth = auth
        self.session = session
        self.token = session.access_token

    async def __call__(self, rpc: str, **fields: Any) -> Any:
        (module,) = (module for module in CONTRACTS if hasattr(module, f"{rpc}Request"))
        request = getattr(module, f"{rpc}Request")(**fields)
        return await getattr(self.auth.stub, rpc)(request, metadata=bearer(self.token), timeout=20)


async def new_user(admin: Caller, name: str = "ben", **fields: Any) -> tuple[user_pb2.User, Caller]:
    """An account whose user has chosen a password."""
    made = await admin("CreateUser", username=name, **fields)
    first = Caller(admin.auth, await admin.auth.login(name, made.one_time_password))
    changed = await first("ChangePassword", old_password=made.one_time_password, new_password=PASSWORD)
    return made.user, Caller(admin.auth, changed.session)


async def exchange(auth: RunningAuth, secret: str) -> str:
    request = api_token_pb2.ExchangeApiTokenRequest(api_token=secret)
    answer: api_token_pb2.ExchangeApiTokenResponse = await auth.stub.ExchangeApiToken(request, timeout=20)
    return answer.access_token


def register(auth: RunningAuth, username: str = "eve", **fields: str) -> Awaitable[account_pb2.RegisterResponse]:
    request = account_pb2.RegisterRequest(username=username, **{"password": PASSWORD, **fields})
    call: Awaitable[account_pb2.RegisterResponse] = auth.stub.Register(
        request, metadata=(("x-client-address", "203.0.113.9"),), timeout=20
    )
    return call


def begun_at(auth: RunningAuth, moment: str) -> None:
    """Changes the start of all sessions to `moment`, a modifier of SQLite's `datetime`."""
    with database_file(auth) as file:
        file.execute("UPDATE sessions SET create_time = datetime('now', ?)", (moment,))
    file.close()
