"""Damaged SQLite files, and faults that are not damage: locked, full, read-only, not permitted."""

import asyncio
import errno
import functools
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from services.common.errors import Code, DataLossError, StemTubeError, UnavailableError
from services.common.jobs.queue import JobQueue
from services.common.storage import sqlite_connection
from services.common.storage.database import Database, migrate
from services.common.storage.sqlite_faults import check_file, system_fault
from tests.common.damage import DAMAGE, overwrite_header, zero_first_page_of


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """Auth's database after an orderly end."""
    path = tmp_path / "auth.sqlite"
    await migrate(f"sqlite:///{path}", "services.auth")
    return path


async def start_fault(path: Path) -> StemTubeError:
    with pytest.raises(StemTubeError) as fault:
        await migrate(f"sqlite:///{path}", "services.auth")
    return fault.value


@pytest.mark.parametrize("damage", DAMAGE)
async def test_damage_is_found_at_the_start_and_nothing_is_changed(path: Path, damage: str) -> None:
    DAMAGE[damage](path)
    before = {
        file.name: file.read_bytes() for file in path.parent.glob(f"{path.name}*") if file.suffix != ".sqlite-shm"
    }
    fault = await start_fault(path)
    assert isinstance(fault, DataLossError)
    assert (fault.reason, fault.code) == ("DATABASE_DAMAGED", Code.DATA_LOSS)
    assert str(path) in fault.message
    assert "stemtube admin restore" in fault.message
    assert "\n" not in fault.message
    assert {name: (path.parent / name).read_bytes() for name in before if (path.parent / name).exists()} == before


@pytest.mark.parametrize("damage", DAMAGE)
async def test_a_queue_does_not_start_on_a_damaged_database(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "jobs.sqlite"
    queue = JobQueue(f"sqlite:///{path}", "test")
    await queue.start()
    await queue.submit("count", {}, key="k", user="anna")
    await queue.close()
    DAMAGE[damage](path)
    with pytest.raises(DataLossError) as fault:
        await JobQueue(f"sqlite:///{path}", "test").start()
    assert fault.value.reason == "DATABASE_DAMAGED"


@pytest.mark.parametrize("process_name", ["auth", pytest.param("analysis", marks=pytest.mark.long)])
def test_a_process_ends_with_one_line(tmp_path: Path, process_name: str) -> None:
    path = tmp_path / "databases" / f"{process_name}.sqlite"
    path.parent.mkdir()
    path.write_bytes(b"no database\n" * 1000)
    ended = subprocess.run(
        [sys.executable, "-m", f"services.{process_name}"],
        env={**os.environ, "STEMTUBE_DATA_DIR": str(tmp_path), "STEMTUBE_LOG__FORMAT": "json"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 1
    lines = [line for line in ended.stderr.splitlines() if "DATABASE_DAMAGED" in line]
    assert len(lines) == 1
    assert str(path) in lines[0]
    assert "admin restore" in lines[0]
    assert "Traceback" not in ended.stderr


async def test_an_orderly_database_and_the_log_of_a_killed_process_are_fine(path: Path) -> None:
    check_file(path)
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("PRAGMA wal_autocheckpoint = 0")
    writer.execute("INSERT INTO attempts VALUES (x'00', 1, '2026-01-01', '2026-01-01')")
    killed = path.with_name("killed.sqlite")
    for ending in ("", "-wal"):
        shutil.copy(f"{path}{ending}", f"{killed}{ending}")
    writer.close()
    await migrate(f"sqlite:///{killed}", "services.auth")
    with closing(sqlite3.connect(killed)) as connection:
        assert connection.execute("SELECT count FROM attempts").fetchall() == [(1,)]


async def read_all(database: Database) -> None:
    async with database.read() as session:
        for table in ("users", "sessions", "api_tokens", "attempts", "signing_keys", "invitations"):
            await session.execute(text(f"SELECT * FROM {table}"))


async def fill_disk(database: Database) -> None:
    async with database.write() as session:
        await session.execute(text("PRAGMA max_page_count = 1"))  # makes SQLite fail as on a full disk
        await session.execute(text("CREATE TABLE large AS SELECT zeroblob(1000000)"))


@pytest.mark.parametrize(
    "damage",
    [overwrite_header, functools.partial(zero_first_page_of, table="attempts")],
    ids=["header", "page"],
)
async def test_damage_during_use_is_reported_without_paths_and_logged_with_the_remedy(
    path: Path, damage: Callable[[Path], None]
) -> None:
    async with Database(f"sqlite:///{path}") as database:
        damage(path)
        with capture_logs() as logs, pytest.raises(DataLossError) as fault:
            await read_all(database)
        assert fault.value.reason == "DATABASE_DAMAGED"
        assert str(path) not in fault.value.message
        (line,) = [line for line in logs if line["event"] == "database damaged"]
        assert line["log_level"] == "error"
        assert str(path) in line["detail"]
        assert "admin restore" in line["detail"]


async def test_a_file_that_is_lost_while_it_is_used_is_not_made_again(path: Path) -> None:
    async with Database(f"sqlite:///{path}") as database:
        await asyncio.to_thread(path.unlink)
        with pytest.raises(UnavailableError):
            await read_all(database)
    assert path not in await asyncio.to_thread(lambda: list(path.parent.iterdir()))


async def test_a_locked_database_is_not_damaged(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_connection, "SQLITE_BUSY_SECONDS", 0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM attempts")
        assert (await start_fault(path)).reason == "DATABASE_LOCKED"


async def test_a_full_disk_is_not_damage(path: Path) -> None:
    async with Database(f"sqlite:///{path}") as database:
        with pytest.raises(UnavailableError) as fault:
            await fill_disk(database)
    assert fault.value.reason == "DATABASE_DISK_FULL"
    check_file(path)


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "DATABASE_DISK_FULL"),
        (errno.EROFS, "DATABASE_READ_ONLY"),
        (errno.EACCES, "DATABASE_NO_PERMISSION"),
        (errno.ENOTDIR, "DATABASE_UNAVAILABLE"),
    ],
)
def test_each_refusal_of_the_system_has_its_own_message(tmp_path: Path, number: int, reason: str) -> None:
    fault = system_fault(OSError(number, os.strerror(number)), tmp_path / "auth.sqlite")
    assert fault.reason == reason
    assert str(tmp_path / "auth.sqlite") in fault.message


@contextmanager
def without_rights() -> Iterator[None]:
    """Changes from root, who may read and write everything, to nobody for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("folder_mode", [0o755, 0o000], ids=["file", "folder"])
def test_a_database_without_write_permission_is_not_damaged(folder_mode: int) -> None:
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # the test's own has parents that are for its owner only
    path = folder / "auth.sqlite"
    try:
        asyncio.run(migrate(f"sqlite:///{path}", "services.auth"))
        path.chmod(0o400)
        folder.chmod(folder_mode)
        with without_rights(), pytest.raises(UnavailableError) as fault:
            asyncio.run(migrate(f"sqlite:///{path}", "services.auth"))
        assert fault.value.reason == "DATABASE_NO_PERMISSION"
        assert str(path) in fault.value.message
    finally:
        folder.chmod(0o700)
        shutil.rmtree(folder)
