import asyncio
import os
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from pydantic import SecretStr, TypeAdapter, ValidationError
from sqlalchemy import MetaData, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from services.common.errors import InvalidInputError, PreconditionError, UnavailableError
from services.common.storage import sqlite_connection
from services.common.storage.database import COLUMN_TYPES, NAMING, Database, DatabaseUrl, migrate, parse_url
from tests.common.postgres import create_database

ROOT = Path(__file__).resolve().parents[3]


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = COLUMN_TYPES


class Reading(Base):
    __tablename__ = "readings"

    id: Mapped[int] = mapped_column(primary_key=True)
    count: Mapped[int]
    taken: Mapped[datetime | None]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return create_database()
    return f"sqlite:///{tmp_path}/test.sqlite"


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/test.sqlite"


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    async with Database(url) as database:
        async with database.engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        yield database


class Schema:
    """A service's package with migrations, written by the test."""

    def __init__(self, folder: Path, name: str = "shelf") -> None:
        self.package = name
        self.folder = folder
        versions = folder / name / "migrations" / "versions"
        versions.mkdir(parents=True)
        (folder / name / "__init__.py").touch()
        (folder / name / "migrations" / "env.py").write_text(
            "from sqlalchemy import MetaData\n"
            "from services.common.storage.database import run_migrations\n"
            "run_migrations(MetaData())\n"
        )

    def add(self, number: int, *steps: str) -> None:
        body = "".join(f"    {step}\n" for step in steps)
        (self.folder / self.package / "migrations" / "versions" / f"{number:04}_step.py").write_text(
            "import time\nimport sqlalchemy as sa\nfrom alembic import op\n"
            f"revision = '{number:04}'\ndown_revision = {f'{number - 1:04}' if number > 1 else None!r}\n"
            f"def upgrade():\n{body}"
        )

    def remove(self, number: int) -> None:
        (self.folder / self.package / "migrations" / "versions" / f"{number:04}_step.py").unlink()


@pytest.fixture
def schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Schema]:
    monkeypatch.syspath_prepend(tmp_path / "code")
    schema = Schema(tmp_path / "code")
    schema.add(1, "op.create_table('books', sa.Column('id', sa.Integer, primary_key=True))")
    yield schema
    sys.modules.pop("shelf", None)


async def rows(url: str, query: str) -> list[tuple[object, ...]]:
    async with Database(url) as database, database.read() as session:
        return [tuple(row) for row in await session.execute(text(query))]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("sqlite:///a/b.sqlite", "sqlite+aiosqlite:///a/b.sqlite"),
        ("sqlite:////a/b.sqlite", "sqlite+aiosqlite:////a/b.sqlite"),
        ("sqlite+aiosqlite:///a", "sqlite+aiosqlite:///a"),
        ("postgresql://me:pw@host:5433/db?sslmode=require", "postgresql+psycopg://me:pw@host:5433/db?sslmode=require"),
        ("postgres://host/db", "postgresql+psycopg://host/db"),
        ("postgresql+asyncpg://host/db", "postgresql+psycopg://host/db"),
    ],
)
def test_a_url_gets_the_asynchronous_driver(given: str, meant: str) -> None:
    assert parse_url(given).render_as_string(hide_password=False) == meant


@pytest.mark.parametrize("url", ["mysql://me:hunter2@host/db", "hunter2", "sqlite://", "sqlite:///:memory:", ""])
def test_other_urls_are_refused_without_repeating_them(url: str) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        parse_url(url)
    assert "hunter2" not in str(refusal.value)


def test_a_setting_with_a_wrong_url_is_a_validation_error() -> None:
    adapter = TypeAdapter(DatabaseUrl)
    assert adapter.validate_python("").get_secret_value() == ""
    assert adapter.validate_python("postgresql://host/db") == SecretStr("postgresql://host/db")
    with pytest.raises(ValidationError, match="must be a URL"):
        adapter.validate_python("redis://host")


async def test_every_sqlite_connection_is_set_up_and_the_file_is_private(sqlite_url: str, tmp_path: Path) -> None:
    async with Database(sqlite_url) as database, database.read() as one, database.read() as other:
        for session in (one, other):
            values = [
                await session.scalar(text(f"PRAGMA {name}"))
                for name in ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")
            ]
            assert values == ["wal", 1, 1, sqlite_connection.SQLITE_BUSY_SECONDS * 1000]
    assert (tmp_path / "test.sqlite").stat().st_mode & 0o777 == 0o600


async def test_times_are_returned_in_utc(database: Database) -> None:
    noon = datetime(2026, 7, 1, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    async with database.write() as session:
        session.add_all([Reading(count=1, taken=noon), Reading(count=2, taken=None)])
    async with database.read() as session:
        taken = list(await session.scalars(select(Reading.taken).order_by(Reading.count)))
        earlier = await session.scalar(select(Reading.count).where(Reading.taken < noon + timedelta(microseconds=1)))
    assert taken == [noon, None]
    assert taken[0] is not None
    assert taken[0].tzinfo is UTC
    assert earlier == 1


async def test_a_time_without_time_zone_is_refused(database: Database) -> None:
    with pytest.raises(Exception, match="needs a time zone"):
        async with database.write() as session:
            session.add(Reading(count=1, taken=datetime(2026, 7, 1)))


async def test_an_exception_undoes_what_was_written(database: Database) -> None:
    async def write_and_fail() -> None:
        async with database.write() as session:
            session.add(Reading(count=1))
            await session.flush()
            raise KeyError

    with pytest.raises(KeyError):
        await write_and_fail()
    async with database.read() as session:
        assert list(await session.scalars(select(Reading))) == []


async def test_a_locked_row_does_not_change_between_read_and_write(database: Database) -> None:
    async with database.write() as session:
        session.add(Reading(id=1, count=0))

    async def add_one() -> None:
        async with database.write() as session:
            reading = await session.get_one(Reading, 1, with_for_update=True)
            await asyncio.sleep(0.001)
            reading.count += 1

    await asyncio.gather(*(add_one() for _ in range(20)))
    async with database.read() as session:
        assert (await session.get_one(Reading, 1)).count == 20


async def test_blocks_with_the_same_lock_run_one_after_another(database: Database) -> None:
    async def create_if_none() -> None:
        async with database.write(lock="first reading") as session:
            if not await session.scalar(select(Reading.id)):
                await asyncio.sleep(0.01)
                session.add(Reading(count=1))

    await asyncio.gather(*(create_if_none() for _ in range(5)))
    async with database.read() as session:
        assert len(list(await session.scalars(select(Reading)))) == 1


async def test_a_locked_database_is_an_outage_and_a_wrong_query_is_not(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_connection, "SQLITE_BUSY_SECONDS", 0.05)
    async with Database(sqlite_url) as database:
        async with database.read() as session:
            await session.execute(text("SELECT 1"))
        other = sqlite3.connect(tmp_path / "test.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnavailableError) as outage:
            async with database.write() as session:
                await session.execute(text("SELECT 1"))
        assert outage.value.reason == "DATABASE_LOCKED"
        other.close()
        with pytest.raises(Exception, match="no such table") as fault:
            async with database.read() as session:
                await session.execute(text("SELECT * FROM no_such_table"))
        assert not isinstance(fault.value, UnavailableError)


@pytest.mark.parametrize(
    "url", ["postgresql://me:hunter2@127.0.0.1:1/db", "sqlite:////dev/null/x.sqlite"], ids=["postgresql", "sqlite"]
)
async def test_a_database_that_cannot_be_reached_is_an_outage(url: str) -> None:
    with pytest.raises(UnavailableError) as outage:
        await migrate(url, "services.auth")
    assert "hunter2" not in str(outage.value)


async def test_migrations_run_once_and_in_order(url: str, schema: Schema) -> None:
    await migrate(url, "shelf")
    schema.add(2, "op.add_column('books', sa.Column('title', sa.String(9)))")
    schema.add(3, "op.execute(\"INSERT INTO books (id, title) VALUES (1, '100%')\")")
    await migrate(url, "shelf")
    await migrate(url, "shelf")
    assert await rows(url, "SELECT id, title FROM books") == [(1, "100%")]
    assert await rows(url, "SELECT version_num FROM shelf_schema_version") == [("0003",)]


async def test_processes_that_start_at_once_migrate_once(url: str, schema: Schema) -> None:
    schema.add(2, "time.sleep(0.3)", "op.execute('INSERT INTO books (id) VALUES (1)')")
    program = (
        f"import asyncio; from services.common.storage.database import migrate; asyncio.run(migrate({url!r}, 'shelf'))"
    )
    environment = os.environ | {"PYTHONPATH": f"{schema.folder}:{ROOT}:{ROOT / 'protos' / 'gen'}"}
    processes = [await asyncio.create_subprocess_exec(sys.executable, "-c", program, env=environment) for _ in range(2)]
    assert [await process.wait() for process in processes] == [0, 0]
    assert await rows(url, "SELECT id FROM books") == [(1,)]


async def test_migrations_of_two_services_in_one_process_and_one_database(
    url: str, schema: Schema, tmp_path: Path
) -> None:
    other = Schema(tmp_path / "code", "cellar")
    other.add(1, "op.create_table('bottles', sa.Column('id', sa.Integer, primary_key=True))")
    await asyncio.gather(migrate(url, "shelf"), migrate(url, "cellar"))
    assert await rows(url, "SELECT id FROM books") == await rows(url, "SELECT id FROM bottles") == []
    sys.modules.pop("cellar", None)


async def test_a_failed_migration_leaves_the_schema_as_it_was(url: str, schema: Schema) -> None:
    await migrate(url, "shelf")
    schema.add(2, "op.create_table('pens', sa.Column('id', sa.Integer, primary_key=True))", "raise RuntimeError('no')")
    with pytest.raises(RuntimeError, match="no"):
        await migrate(url, "shelf")
    schema.add(2, "op.create_table('pens', sa.Column('id', sa.Integer, primary_key=True))")
    await migrate(url, "shelf")
    assert await rows(url, "SELECT id FROM pens") == []


async def test_a_database_of_a_newer_version_is_refused(url: str, schema: Schema) -> None:
    schema.add(2, "pass")
    await migrate(url, "shelf")
    schema.remove(2)
    with pytest.raises(PreconditionError) as refusal:
        await migrate(url, "shelf")
    assert refusal.value.reason == "DATABASE_TOO_NEW"


async def test_a_changed_table_keeps_the_rows_that_refer_to_it(url: str, schema: Schema) -> None:
    schema.add(
        2,
        "op.create_table('pages', sa.Column('book', sa.Integer, sa.ForeignKey('books.id', ondelete='CASCADE')))",
        "op.execute('INSERT INTO books (id) VALUES (1)')",
        "op.execute('INSERT INTO pages (book) VALUES (1)')",
    )
    schema.add(
        3,
        "with op.batch_alter_table('books', recreate='auto') as books:",
        "    books.add_column(sa.Column('title', sa.String(9), nullable=False, server_default=''))",
        "    books.create_unique_constraint('uq_books_title', ['title'])",
    )
    await migrate(url, "shelf")
    assert await rows(url, "SELECT book FROM pages") == [(1,)]


async def test_a_migration_that_breaks_references_fails(sqlite_url: str, schema: Schema) -> None:
    schema.add(
        2,
        "op.create_table('pages', sa.Column('book', sa.Integer, sa.ForeignKey('books.id')))",
        "op.execute('INSERT INTO pages (book) VALUES (7)')",
    )
    with pytest.raises(RuntimeError, match="row of pages that refers to none of books"):
        await migrate(sqlite_url, "shelf")
    assert await rows(sqlite_url, "SELECT name FROM sqlite_master WHERE name IN ('books', 'pages')") == []


async def test_a_migration_does_not_hold_up_the_event_loop(sqlite_url: str, schema: Schema) -> None:
    schema.add(2, "time.sleep(0.6)")
    longest, last = 0.0, time.monotonic()
    migrating = asyncio.create_task(migrate(sqlite_url, "shelf"))
    while not migrating.done():
        await asyncio.sleep(0.01)
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    await migrating
    assert longest < 0.5


async def test_a_call_that_is_cancelled_twice_does_not_hang(tmp_path: Path) -> None:
    """A gRPC server cancels twice when it ends; closing the connection once waited for a thread that had ended."""
    before = asyncio.all_tasks()

    async def wait_for_turn(database: Database) -> None:
        async with database.write() as session:
            await session.execute(text("SELECT 1"))

    async with Database(f"sqlite:///{tmp_path / 'shared.sqlite'}") as database, database.write() as session:
        await session.execute(text("SELECT 1"))
        waiting = asyncio.create_task(wait_for_turn(database))
        for _ in range(2):
            await asyncio.sleep(0.05)
            waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with asyncio.timeout(10):
        while asyncio.all_tasks() != before:
            await asyncio.sleep(0.02)
