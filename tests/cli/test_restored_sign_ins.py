"""After a restore, no credential in the backup is valid: a real auth service, before and after."""

import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from pydantic import SecretStr

from cli.backup.backup import backup
from cli.backup.restore import restore
from cli.backup.sign_ins import EMPTIED
from cli.local.suite import SuiteSettings
from services.auth.tables import Base
from services.common.rpc.auth import bearer
from stemtube.auth.v1 import access_token_pb2, account_pb2, api_token_pb2, invitation_pb2, session_pb2, user_pb2
from tests.auth.running import RunningAuth, auth_settings, running_auth
from tests.cli.test_backup import fill, ignore_progress, postgres_programs, settings
from tests.common.postgres import create_database

__all__ = ["postgres_programs", "settings"]  # fixtures
REFUSED = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
NEW_PASSWORD = "another horse battery staple"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, postgres_programs: None) -> str:
    return "" if request.param == "sqlite" else create_database()


class Suite:
    """The auth service of an installation, and its backup and restore."""

    def __init__(self, settings: SuiteSettings, database_url: str, folder: Path) -> None:
        place = settings.auth.model_copy(update={"database_url": SecretStr(database_url)})
        self.settings = settings.model_copy(update={"auth": place})
        self._database_url = database_url
        self._folder = folder

    @contextlib.asynccontextmanager
    async def auth(self) -> AsyncIterator[RunningAuth]:
        section: dict[str, Any] = {"database_url": SecretStr(self._database_url), "registration": "invitation"}
        async with running_auth(auth_settings(self.settings.data_dir, **section)) as auth:
            yield auth

    @property
    def secret(self) -> str:
        return self.settings.shared_service_secret()

    @property
    def file(self) -> Path | None:
        return None if self._database_url else self.settings.data_dir / "databases" / "auth.sqlite"

    async def back_up(self) -> None:
        await backup(self.settings, self._folder, ignore_progress)

    async def put_back(self, *, keep_sign_ins: bool = False) -> None:
        await restore(self.settings, self._folder, ignore_progress, force=True, keep_sign_ins=keep_sign_ins)


@pytest.fixture
async def suite(settings: SuiteSettings, database_url: str, tmp_path: Path) -> Suite:
    await fill(settings)
    (settings.data_dir / "databases" / "auth.sqlite").unlink()
    return Suite(settings, database_url, tmp_path / "backup")


class SignedIn:
    """All credentials of a user at one moment."""

    def __init__(self, auth: RunningAuth, session: session_pb2.Session) -> None:
        self.session = session
        self.access = bearer(session.access_token)
        self._auth = auth

    async def make_all(self) -> None:
        stub, access = self._auth.stub, self.access
        token = api_token_pb2.CreateApiTokenRequest(name="script", scopes=["read"])
        self.api_token = await stub.CreateApiToken(token, metadata=access)
        self.invitation = await stub.CreateInvitation(invitation_pb2.CreateInvitationRequest(), metadata=access)
        self.ben = await stub.CreateUser(user_pb2.CreateUserRequest(username="ben"), metadata=access)

    async def end_all(self) -> None:
        """Ends them all, as an admin does after a theft."""
        stub, access = self._auth.stub, self.access
        token = api_token_pb2.DeleteApiTokenRequest(api_token_id=self.api_token.api_token.id)
        await stub.DeleteApiToken(token, metadata=access)
        invitation = invitation_pb2.DeleteInvitationRequest(invitation_id=self.invitation.invitation.id)
        await stub.DeleteInvitation(invitation, metadata=access)
        await stub.ResetPassword(user_pb2.ResetPasswordRequest(user_id=self.ben.user.id), metadata=access)
        await stub.RotateSigningKey(access_token_pb2.RotateSigningKeyRequest(withdraw_older=True), metadata=access)
        await self._auth.logout(self.session.refresh_token)


async def code_of(call: Any) -> grpc.StatusCode:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def ways_in(auth: RunningAuth, held: SignedIn) -> dict[str, grpc.StatusCode]:
    register = account_pb2.RegisterRequest(username="carl", password=NEW_PASSWORD, invitation=held.invitation.code)
    return {
        "access token": await code_of(auth.me(held.session.access_token)),
        "API token": await code_of(
            auth.stub.ExchangeApiToken(api_token_pb2.ExchangeApiTokenRequest(api_token=held.api_token.secret))
        ),
        "one-time password": await code_of(auth.login("ben", held.ben.one_time_password)),
        "invitation": await code_of(auth.stub.Register(register)),
        "refresh token": await code_of(auth.refresh(held.session.refresh_token)),
    }


async def test_sign_ins_that_were_ended_since_the_backup_are_refused(suite: Suite) -> None:
    async with suite.auth() as auth:
        held = SignedIn(auth, await auth.login())
        await held.make_all()
        await suite.back_up()
        await held.end_all()
    await suite.put_back()
    async with suite.auth() as auth:
        assert {name: code for name, code in (await ways_in(auth, held)).items() if code not in REFUSED} == {}
        again = await auth.login()
        assert (await auth.me(again.access_token)).username == "admin"
        assert await auth.service_token("download", suite.secret)


async def test_sign_ins_are_kept_on_request(suite: Suite) -> None:
    async with suite.auth() as auth:
        held = SignedIn(auth, await auth.login())
        await held.make_all()
        await suite.back_up()
        await held.end_all()
    await suite.put_back(keep_sign_ins=True)
    async with suite.auth() as auth:
        assert set((await ways_in(auth, held)).values()) == {grpc.StatusCode.OK}


async def test_the_only_admin_keeps_a_one_time_password(suite: Suite) -> None:
    """Otherwise nobody could sign in."""
    async with suite.auth() as auth:
        held = SignedIn(auth, await auth.login())
        admin = (await auth.me(held.session.access_token)).id
        reset = user_pb2.ResetPasswordRequest(user_id=admin)
        one_time = (await auth.stub.ResetPassword(reset, metadata=held.access)).one_time_password
        await suite.back_up()
    await suite.put_back()
    async with suite.auth() as auth:
        assert (await auth.login("admin", one_time)).user.must_change_password


@pytest.mark.parametrize("database_url", [""], ids=["sqlite"])
async def test_no_signing_key_stays_in_the_restored_file(suite: Suite) -> None:
    async with suite.auth() as auth:
        await auth.login()
        await suite.back_up()
    assert suite.file is not None
    with contextlib.closing(sqlite3.connect(suite.file)) as connection:
        (key,) = connection.execute("SELECT private_key FROM signing_keys").fetchone()
    await suite.put_back()
    assert key not in suite.file.read_bytes()


async def test_a_backup_with_the_first_version_of_the_tables_is_restored_too(
    settings: SuiteSettings, tmp_path: Path
) -> None:
    await fill(settings)
    with contextlib.closing(sqlite3.connect(settings.data_dir / "databases" / "auth.sqlite")) as connection:
        connection.execute("CREATE TABLE users (id TEXT)")
        connection.execute("CREATE TABLE sessions (id TEXT)")
        connection.execute("INSERT INTO users VALUES ('anna')")
        connection.execute("INSERT INTO sessions VALUES ('s')")
        connection.commit()
    await backup(settings, tmp_path / "backup", ignore_progress)
    await restore(settings, tmp_path / "backup", ignore_progress, force=True)
    with contextlib.closing(sqlite3.connect(settings.data_dir / "databases" / "auth.sqlite")) as connection:
        assert connection.execute("SELECT id FROM users").fetchall() == [("anna",)]
        assert connection.execute("SELECT id FROM sessions").fetchall() == []


def test_the_tables_that_are_restored_empty_are_those_of_auth() -> None:
    """Each table with credentials is named here; the others have none."""
    assert set(EMPTIED) | {"users", "attempts"} == set(Base.metadata.tables)
