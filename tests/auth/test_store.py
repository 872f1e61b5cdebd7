"""What auth keeps, on both kinds of database, with several processes' worth of connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from services.auth.keys import KeyRing
from services.auth.sessions import Sessions
from services.auth.store import Store
from services.auth.tables import Base, RefreshToken, Session, StoredKey, User
from services.common.database import Database, migrate
from services.common.errors import UnauthenticatedError
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
        _, token = await sessions[0].open(user.id)
        results = await asyncio.gather(*(one.refresh(token) for one in sessions), return_exceptions=True)
        refused = [result for result in results if isinstance(result, BaseException)]
        assert len(refused) == 2
        assert all(isinstance(error, UnauthenticatedError) for error in refused)


async def test_purging_forgets_what_has_expired_only(databases: list[Database]) -> None:
    lasting, fleeting = Sessions(databases[0], MONTH, MINUTE), Sessions(databases[1], timedelta(0), MINUTE)
    user = await new_user(Store(databases[0]))
    _, first = await lasting.open(user.id)
    await lasting.refresh(first)
    await fleeting.open(user.id)
    await lasting.purge()
    assert await count(databases[0], RefreshToken) == 2
    assert await count(databases[0], Session) == 1
    with pytest.raises(UnauthenticatedError):  # the spent one is still known as spent
        await lasting.refresh(first)


async def test_sessions_go_with_their_user(
    databases: list[Database], stores: list[Store], sessions: list[Sessions]
) -> None:
    user = await new_user(stores[0])
    await sessions[0].open(user.id)
    async with databases[0].write() as session:
        await session.delete(await session.get_one(User, user.id))
    assert await count(databases[0], Session) == 0
    assert await count(databases[0], RefreshToken) == 0
