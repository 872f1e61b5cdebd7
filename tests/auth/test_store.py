"""What auth keeps, on both kinds of database, with several processes' worth of connections."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from services.auth.api_tokens import ApiTokens
from services.auth.invitations import Invitations
from services.auth.keys import KeyRing
from services.auth.sessions import Sessions
from services.auth.store import Store
from services.auth.tables import ApiToken, Attempts, Base, Invitation, RefreshToken, Session, StoredKey, User
from services.auth.throttle import Counter, Throttle, account
from services.common.errors import PreconditionError, UnauthenticatedError
from services.common.rpc.auth import Identity
from services.common.storage.database import Database, migrate
from tests.common.postgres import create_database
from tests.common.schema import differences

MONTH, MINUTE = timedelta(days=30), timedelta(minutes=1)


@pytest.fixture(params=["sqlite", "postgresql"])
async def databases(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[list[Database]]:
    """Three replicas' connections to one database."""
    url = create_database() if request.param == "postgresql" else f"sqlite:///{tmp_path}/auth.sqlite"
    await migrate(url, "services.auth")
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Database(url)) for _ in range(3)]


@pytest.fixture
def stores(databases: list[Database]) -> list[Store]:
    return [Store(database) for database in databases]


@pytest.fixture
def sessions(databases: list[Database]) -> list[Sessions]:
    return [Sessions(database, MONTH, MINUTE) for database in databases]


async def count(database: Database, table: type[Base]) -> int:
    async with database.read() as session:
        return await session.scalar(select(func.count()).select_from(table)) or 0


async def new_user(store: Store) -> User:
    await store.create_first_admin("ada", "hash", lambda: None)
    user = await store.user_named("ada")
    assert user is not None
    return user


async def calling(sessions: Sessions, user: User) -> Identity:
    """Who calls with a token of a new session of a user's."""
    _, session_id, _ = await sessions.open(user)
    return Identity(user.id, user.username, "user", admin=user.admin, session_id=session_id)


async def test_migrations_lead_to_the_tables_of_the_code(databases: list[Database]) -> None:
    assert await differences(databases[0], Base.metadata) == []


async def test_replicas_that_start_at_once_create_one_admin_and_keep_one_password(stores: list[Store]) -> None:
    kept: list[str] = []

    def create(store: Store, number: int) -> "asyncio.Future[bool]":
        name = f"admin-{number}"
        return asyncio.ensure_future(store.create_first_admin(name, "hash", lambda: kept.append(name)))

    created = await asyncio.gather(*(create(store, number) for number, store in enumerate(stores)))
    assert sorted(created) == [False, False, True]
    assert len(kept) == 1
    assert await stores[0].user_named(kept[0])
    assert await stores[0].has_users()


async def test_replicas_that_start_at_once_share_one_signing_key(
    databases: list[Database],
) -> None:
    rings = [KeyRing(database, MINUTE, MONTH) for database in databases]
    keys = await asyncio.gather(*(ring.signing_key() for ring in rings))
    assert len({key.key_id for key in keys}) == 1
    assert await count(databases[0], StoredKey) == 1


async def test_one_of_many_refreshes_at_once_succeeds(stores: list[Store], sessions: list[Sessions]) -> None:
    user = await new_user(stores[0])
    for _ in range(5):
        _, _, token = await sessions[0].open(user)
        results = await asyncio.gather(*(one.refresh(token) for one in sessions), return_exceptions=True)
        refused = [result for result in results if isinstance(result, BaseException)]
        assert len(refused) == 2
        assert all(isinstance(error, UnauthenticatedError) for error in refused)


async def test_purging_forgets_what_has_expired_only(databases: list[Database]) -> None:
    lasting, fleeting = Sessions(databases[0], MONTH, MINUTE), Sessions(databases[1], timedelta(0), MINUTE)
    user = await new_user(Store(databases[0]))
    _, _, first = await lasting.open(user)
    await lasting.refresh(first)
    await fleeting.open(user)
    await lasting.purge()
    assert await count(databases[0], RefreshToken) == 2
    assert await count(databases[0], Session) == 1
    with pytest.raises(UnauthenticatedError):  # the spent one is still known as spent
        await lasting.refresh(first)


async def test_sessions_go_with_their_user(
    databases: list[Database], stores: list[Store], sessions: list[Sessions]
) -> None:
    user = await new_user(stores[0])
    await sessions[0].open(user)
    async with databases[0].write() as session:
        await session.delete(await session.get_one(User, user.id))
    assert await count(databases[0], Session) == 0
    assert await count(databases[0], RefreshToken) == 0


async def made_earlier(database: Database, key_id: str, **earlier: float) -> None:
    async with database.write() as session:
        key = await session.get_one(StoredKey, key_id)
        key.create_time -= timedelta(**earlier)


async def test_a_key_is_replaced_when_it_is_old_and_forgotten_when_its_tokens_are(databases: list[Database]) -> None:
    def ring(number: int) -> KeyRing:  # one that has not read anything yet
        return KeyRing(databases[number], MINUTE, MONTH)

    first = (await ring(0).signing_key()).key_id
    await ring(0).tend()
    assert set(await ring(1).public_keys()) == {first}
    await made_earlier(databases[0], first, days=31)
    for number in range(3):
        await ring(number).tend()
    (second,) = set(await ring(1).public_keys()) - {first}
    assert (await ring(2).signing_key()).key_id == first  # some services may not know the second yet
    await made_earlier(databases[0], second, minutes=3)
    assert (await ring(2).signing_key()).key_id == second
    await ring(0).tend()
    assert set(await ring(1).public_keys()) == {first, second}
    await made_earlier(databases[0], second, minutes=10)
    await ring(0).tend()
    assert set(await ring(1).public_keys()) == {second}


async def test_purging_forgets_tokens_invitations_and_attempts_that_are_over(databases: list[Database]) -> None:
    user = await new_user(Store(databases[0]))
    tokens, invitations, throttle = ApiTokens(databases[0], MINUTE), Invitations(databases[1]), Throttle(databases[2])
    me = await calling(Sessions(databases[0], MONTH, MINUTE), user)
    kept, _ = await tokens.create(me, "kept", ["read"], MONTH, checked=user)
    ended, _ = await tokens.create(me, "ended", ["read"], MONTH, checked=user)
    await tokens.end(user.id, ended.id)
    await invitations.create(1, MINUTE, by=me)
    await throttle.begin(account("ada"))
    for purge in (tokens.purge, invitations.purge, throttle.purge):
        await purge()
    assert [await count(databases[0], table) for table in (ApiToken, Invitation, Attempts)] == [2, 1, 1]
    async with databases[0].write() as session:
        long_ago = datetime.now(UTC) - timedelta(days=3)
        await session.execute(update(ApiToken).where(ApiToken.id == ended.id).values(end_time=long_ago))
        await session.execute(update(Invitation).values(expire_time=long_ago))
        await session.execute(update(Attempts).values(last_time=long_ago))
    for purge in (tokens.purge, invitations.purge, throttle.purge):
        await purge()
    assert [await count(databases[0], table) for table in (ApiToken, Invitation, Attempts)] == [1, 0, 0]
    assert [token.id for token in await tokens.of_user(user.id)] == [kept.id]


async def test_attempts_are_counted_for_all_replicas(databases: list[Database]) -> None:
    counter = Counter("account", "ada", free=2, longest_wait=MINUTE)
    throttles = [Throttle(database) for database in databases]
    begun = await asyncio.gather(*(one.begin(counter) for one in throttles), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in begun) == ["LimitExceededError", "NoneType", "NoneType"]
    await throttles[0].succeeded(counter)
    await throttles[1].begin(counter)


@pytest.mark.parametrize("change", [{"disabled": True}, {"admin": False}], ids=["disable", "demote"])
async def test_of_two_admins_who_shut_each_other_out_one_is_left(
    stores: list[Store], sessions: list[Sessions], change: dict[str, bool]
) -> None:
    ada = await new_user(stores[0])
    bob = await stores[0].create("bob", "hash", admin=True)
    callers = [await calling(sessions[0], user) for user in (ada, bob)]
    both = (stores[1].change(ada.id, change, by=callers[1]), stores[2].change(bob.id, change, by=callers[0]))
    outcomes = await asyncio.gather(*both, return_exceptions=True)
    # The second has no rights any more when its turn comes.
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["UnauthenticatedError", "User"]


async def test_of_two_admins_who_go_at_once_one_is_left(stores: list[Store], sessions: list[Sessions]) -> None:
    ada = await new_user(stores[0])
    bob = await stores[0].create("bob", "hash", admin=True)
    going = [
        stores[number].change(user.id, {"admin": False}, by=await calling(sessions[0], user))
        for number, user in enumerate((ada, bob))
    ]
    outcomes = await asyncio.gather(*going, return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["PreconditionError", "User"]


async def test_an_admin_whose_one_time_password_is_over_cannot_sign_in_and_does_not_count(
    stores: list[Store], sessions: list[Sessions]
) -> None:
    ada = await new_user(stores[0])
    await stores[0].create("bob", "hash", admin=True, must_change_password=True, password_expire_time=datetime.now(UTC))
    with pytest.raises(PreconditionError):
        await stores[0].change(ada.id, {"admin": False}, by=await calling(sessions[0], ada))


async def test_accounts_of_the_first_version_are_kept(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/auth.sqlite"
    await migrate(url, "services.auth")
    with sqlite3.connect(tmp_path / "auth.sqlite") as file:
        for table in ("attempts", "invitations", "api_tokens"):
            file.execute(f"DROP TABLE {table}")
        file.execute("DROP INDEX ix_sessions_end_time")
        for column in ("email", "must_change_password", "password_expire_time", "disabled"):
            file.execute(f"ALTER TABLE users DROP COLUMN {column}")
        for column in ("last_use_time", "address", "client"):
            file.execute(f"ALTER TABLE sessions DROP COLUMN {column}")
        file.execute("UPDATE auth_schema_version SET version_num = '0001'")
        file.execute("INSERT INTO users VALUES ('u1', 'Ada', 'ada', 'hash', 1, '2026-01-01 00:00:00')")
        file.execute("INSERT INTO sessions VALUES ('s1', 'u1', '2026-01-01 00:00:00', NULL)")
    file.close()
    await migrate(url, "services.auth")
    async with Database(url) as database:
        user = await Store(database).user_named("ADA")
        assert user is not None
        assert (user.id, user.email, user.disabled, user.must_change_password) == ("u1", "", False, False)
        assert await count(database, Session) == 1
        assert await differences(database, Base.metadata) == []
