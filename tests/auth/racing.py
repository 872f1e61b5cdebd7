"""Pauses calls half-way, and changes an account meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio
import pytest
from sqlalchemy import delete, func, select

from services.auth.passwords.hashing import PasswordHasher
from services.auth.tables import ApiToken, Base, Session, User
from services.common.errors import Code
from services.common.rpc.client import domain_error
from services.common.storage.database import Database
from stemtube.auth.v1 import session_pb2, user_pb2
from tests.auth.calling import PASSWORD, Caller
from tests.auth.running import RunningAuth

ANOTHER = "another rather long secret"
PATIENCE = 20.0
Change = Callable[["Account"], Awaitable[Any]]


class Gate:
    """Holds calls of a method of the hasher after they have computed their result."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
        self._to_hold = self._held = 0
        self._all_held, self._open = asyncio.Event(), asyncio.Event()
        original = getattr(PasswordHasher, method)

        async def held(hasher: PasswordHasher, *arguments: Any) -> Any:
            result = await original(hasher, *arguments)
            if self._to_hold:
                self._to_hold -= 1
                self._held -= 1
                if not self._held:
                    self._all_held.set()
                await self._open.wait()
            return result

        monkeypatch.setattr(PasswordHasher, method, held)

    async def hold(self, calls: list[Awaitable[Any]]) -> list["asyncio.Future[Any]"]:
        """Starts calls, and waits until all of them are held."""
        self._to_hold = self._held = len(calls)
        tasks: list[asyncio.Future[Any]] = [asyncio.ensure_future(call) for call in calls]
        async with asyncio.timeout(PATIENCE):
            await self._all_held.wait()
        return tasks

    async def let_go(self, tasks: list["asyncio.Future[Any]"]) -> list[Any]:
        """Lets the calls go on, and returns their outcomes."""
        self._open.set()
        return await asyncio.gather(*tasks, return_exceptions=True)


class Account:
    """Ben, a second admin, as the first admin and the database see him."""

    def __init__(self, auth: RunningAuth, admin: Caller, user: user_pb2.User, ben: Caller) -> None:
        self.auth, self.admin, self.user, self.ben = auth, admin, user, ben

    async def count(self, table: type[Base], *conditions: Any) -> int:
        async with Database(self.auth.settings.database_url) as database, database.read() as session:
            return await session.scalar(select(func.count()).select_from(table).where(*conditions)) or 0

    async def open_sessions(self) -> int:
        return await self.count(Session, Session.user_id == self.user.id, Session.end_time.is_(None))

    async def good_tokens(self) -> int:
        return await self.count(ApiToken, ApiToken.user_id == self.user.id, ApiToken.end_time.is_(None))

    def login(self) -> Awaitable[session_pb2.Session]:
        return self.auth.login("ben", PASSWORD)


async def disable(account: Account) -> None:
    await account.admin("UpdateUser", user_id=account.user.id, disabled=True)


async def demote(account: Account) -> None:
    await account.admin("UpdateUser", user_id=account.user.id, admin=False)


async def choose_another(account: Account) -> None:
    # With its own session, because `account.ben`'s may be in use.
    me = Caller(account.auth, await account.login())
    await me("ChangePassword", old_password=PASSWORD, new_password=ANOTHER)


async def reset(account: Account) -> None:
    await account.admin("ResetPassword", user_id=account.user.id)


async def remove(account: Account) -> None:
    async with Database(account.auth.settings.database_url) as database, database.write() as session:
        await session.execute(delete(User).where(User.id == account.user.id))


def reason_of(outcome: Any) -> tuple[Code, str]:
    assert isinstance(outcome, grpc.aio.AioRpcError), outcome
    error = domain_error(outcome)
    return error.code, error.reason
