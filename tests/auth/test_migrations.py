"""Migrations of the database."""

import sqlite3
from pathlib import Path

from services.auth.tables import Base, Session
from services.auth.users.repository import UserRepository
from services.common.storage.database import Database, migrate
from tests.auth.storing import count
from tests.common.schema import differences


async def test_migrations_create_the_tables_of_the_code(databases: list[Database]) -> None:
    assert await differences(databases[0], Base.metadata) == []


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
        user = await UserRepository(database).user_named("ADA")
        assert user is not None
        assert (user.id, user.email, user.disabled, user.must_change_password) == ("u1", "", False, False)
        assert await count(database, Session) == 1
        assert await differences(database, Base.metadata) == []
