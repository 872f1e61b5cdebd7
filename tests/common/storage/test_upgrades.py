"""A rolling update: the newest migration runs while processes of the previous version work, and they continue for a
while after it. So a migration only adds, and added columns have a default or may be null. The changelog names
exceptions, which rewrite rows; these tests would not notice them.
"""

import asyncio
import itertools
import uuid
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.script import ScriptDirectory

from services.common.storage.database import Database, migrate
from tests.common.postgres import create_database

PACKAGES = {"auth": "services.auth", "download": "services.download", "jobs": "services.common.jobs"}
VALUES: dict[type[sa.types.TypeEngine[Any]], Any] = {
    sa.Boolean: False,
    sa.Integer: 1,
    sa.Float: 1.5,
    sa.DateTime: datetime(2026, 11, 1, tzinfo=UTC),
    sa.JSON: {"a": 1},
}


KEYS = itertools.count(1)
"""For tables with a number as the primary key."""


def before_the_newest(package: str) -> str | None:
    """The revision before the newest; None if there is only one."""
    newest, *older = ScriptDirectory(str(files(package) / "migrations")).walk_revisions()
    assert newest.is_head
    return older[0].revision if older else None


GROWN = [tables for tables, package in PACKAGES.items() if before_the_newest(package)]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return create_database() if request.param == "postgresql" else f"sqlite:///{tmp_path}/database.sqlite"


async def older_version(url: str, tables: str, monkeypatch: pytest.MonkeyPatch) -> sa.MetaData:
    """Creates the database of the version before, and returns that version's tables."""
    package, upgrade = PACKAGES[tables], command.upgrade
    with monkeypatch.context() as patch:
        revision = before_the_newest(package)
        assert revision is not None
        patch.setattr(command, "upgrade", lambda config, _head: upgrade(config, revision))
        await migrate(url, package, tables)
    known = sa.MetaData()
    async with Database(url) as database, database.engine.connect() as connection:
        await connection.run_sync(known.reflect)
    known.remove(known.tables[f"{tables}_schema_version"])
    return known


def row_of(table: sa.Table, rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A value for each column; references to other tables point to the rows made there."""

    def value(column: sa.Column[Any]) -> Any:
        for key in column.foreign_keys:
            parent, name = key.target_fullname.split(".")
            return rows[parent][name]
        for kind, example in VALUES.items():
            if isinstance(column.type, kind):
                is_key = column.primary_key and kind is sa.Integer
                return next(KEYS) if is_key else example
        if isinstance(column.type, sa.LargeBinary):
            return uuid.uuid4().bytes
        return uuid.uuid4().hex[: getattr(column.type, "length", None) or 32]

    return {column.name: value(column) for column in table.columns}


async def work(database: Database, known: sa.MetaData) -> None:
    """Writes a row to every table and reads it, naming all columns like the version before."""
    rows: dict[str, dict[str, Any]] = {}
    async with database.write() as session:
        for table in known.sorted_tables:
            rows[table.name] = row_of(table, rows)
            await session.execute(sa.insert(table).values(rows[table.name]))
    async with database.read() as session:
        for table in known.sorted_tables:
            key = sa.and_(*(column == rows[table.name][column.name] for column in table.primary_key))
            assert (await session.execute(sa.select(table).where(key))).one()


@pytest.mark.parametrize("tables", GROWN)
async def test_the_version_before_works_during_and_after_the_newest_migration(
    url: str, tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = await older_version(url, tables, monkeypatch)
    async with Database(url) as database:
        await work(database, known)
        done = asyncio.Event()

        async def keep_working() -> int:
            rounds = 0
            while not done.is_set() or not rounds:
                await work(database, known)
                rounds += 1
            return rounds

        working = asyncio.create_task(keep_working())
        await asyncio.gather(*(migrate(url, PACKAGES[tables], tables) for _ in range(2)))
        await work(database, known)
        done.set()
        rounds = await working
        async with database.read() as session:
            for table in known.sorted_tables:
                assert await session.scalar(sa.select(sa.func.count()).select_from(table)) == rounds + 2
