"""Only the library's own store is backed up, and a restore gives the store a new id."""

import asyncio
import json
import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path

import pytest
import typer
from pydantic import SecretStr
from rich.console import Console

from cli.backup.backup import ShowProgress, backup, entry_of
from cli.backup.databases import service_database
from cli.backup.restore import restore
from cli.commands.admin import backup_command
from cli.local.suite import SuiteSettings
from services.common.errors import StemTubeError
from services.common.storage.database import Database, migrate
from services.common.storage.marked_store import MARKER
from services.common.storage.objects import ObjectStore, open_store
from services.download.tables import StoreIdentity
from services.download.upkeep.store_identity import GuardedStore
from tests.cli.test_backup import (
    STORE_ID,
    expect_all,
    file_of,
    fill,
    ignore_progress,
    postgres_programs,
    refusal,
    settings,
)
from tests.common.damage import DAMAGE
from tests.common.postgres import create_database

__all__ = ["postgres_programs", "settings"]  # fixtures
OTHER_ID = "f" * 32


def root_of(settings: SuiteSettings) -> Path:
    return settings.data_dir / "objects"


def marker_of(settings: SuiteSettings) -> str:
    return (root_of(settings) / MARKER).read_text()


def store_id_of(settings: SuiteSettings) -> str:
    with closing(sqlite3.connect(file_of(settings, "download"))) as connection:
        store_id, confirmed = connection.execute("SELECT store_id, confirmed FROM store_identity").fetchone()
    assert confirmed
    return str(store_id)


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("marker", "reason"), [(None, "STORE_AWAY"), (OTHER_ID, "STORE_WRONG"), ("restore unfinished", "STORE_WRONG")]
)
async def test_a_backup_of_a_store_that_is_not_the_librarys_fails(
    settings: SuiteSettings, tmp_path: Path, marker: str | None, reason: str
) -> None:
    await fill(settings)
    shutil.rmtree(root_of(settings))
    if marker is not None:
        await open_store(settings).put(MARKER, marker.encode())
        await open_store(settings).put("originals/theirs", b"a song of another library")
    with pytest.raises(StemTubeError) as refused:
        await backup(settings, tmp_path / "backup", ignore_progress)
    assert refused.value.reason == reason
    assert root_of(settings).exists() == (marker is not None)
    assert not (tmp_path / "backup").exists()


@pytest.mark.parametrize("other", [None, OTHER_ID], ids=["away", "another library's"])
async def test_a_backup_fails_if_the_store_is_lost_or_exchanged_meanwhile(
    settings: SuiteSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str | None
) -> None:
    await fill(settings)

    def lose(_what: str, done: int, _total: int) -> None:
        if done and not (tmp_path / "away").exists():
            root_of(settings).rename(tmp_path / "away")
            root_of(settings).mkdir()
            if other:
                shutil.copytree(tmp_path / "away", root_of(settings), dirs_exist_ok=True)
                (root_of(settings) / MARKER).write_text(other)

    monkeypatch.setattr("cli.backup.backup.AT_ONCE", 1)
    with pytest.raises(StemTubeError) as refused:
        await backup(settings, tmp_path / "backup", lose)
    assert refused.value.reason == ("STORE_WRONG" if other else "STORE_AWAY")
    assert not (tmp_path / "backup").exists()


def test_the_command_exits_with_1_if_many_objects_are_missing(
    settings: SuiteSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(fill(settings))
    songs = [root_of(settings) / "originals" / str(number) for number in range(40)]
    for song in songs:
        song.write_bytes(b"song")
    monkeypatch.setattr("cli.backup.backup.AT_ONCE", 1)
    monkeypatch.setenv("STEMTUBE_DATA_DIR", str(settings.data_dir))
    for count in (1, 20):

        @contextmanager
        def copying(_console: Console, count: int = count) -> Iterator[ShowProgress]:
            def lose(what: str, _done: int, total: int) -> None:
                if what == "objects" and total:
                    for song in songs[:count]:
                        song.unlink(missing_ok=True)

            yield lose

        monkeypatch.setattr("cli.commands.admin.copying", copying)
        with pytest.raises(typer.Exit) if count == 20 else nullcontext():
            backup_command(tmp_path / str(count))
    assert (tmp_path / "20" / "backup.json").exists(), "the rest is worth keeping"


async def test_the_store_is_checked_with_a_database_in_postgresql(
    settings: SuiteSettings, tmp_path: Path, postgres_programs: None
) -> None:
    await fill(settings)
    url = create_database().replace("postgresql://", "postgresql+psycopg://")
    place = settings.download.model_copy(update={"database_url": SecretStr(url)})
    settings = settings.model_copy(update={"download": place})
    source = service_database(url, tmp_path / "unused")
    assert await source.store_id() == ""
    with pytest.raises(StemTubeError, match="has not marked"):
        await backup(settings, tmp_path / "backup", ignore_progress)
    await migrate(url, "services.download")
    assert await source.store_id() == ""
    async with Database(url) as database, database.write() as session:
        session.add(StoreIdentity(id=1, store_id=STORE_ID, confirmed=True))
    await backup(settings, tmp_path / "backup", ignore_progress)
    await restore(settings, tmp_path / "backup", ignore_progress, force=True)
    assert await source.store_id() == marker_of(settings) != STORE_ID
    (root_of(settings) / MARKER).write_text(OTHER_ID)
    with pytest.raises(StemTubeError) as refused:
        await backup(settings, tmp_path / "other", ignore_progress)
    assert refused.value.reason == "STORE_WRONG"


async def test_the_restored_store_gets_a_new_id(settings: SuiteSettings, tmp_path: Path) -> None:
    await fill(settings)
    await backup(settings, tmp_path / "backup", ignore_progress)
    settings.data_dir.rename(tmp_path / "old")
    await restore(settings, tmp_path / "backup", ignore_progress, force=False)
    first = store_id_of(settings)
    assert first == marker_of(settings) != STORE_ID
    assert uuid.UUID(first).hex == first
    # The old disk is mounted again: nothing is written to it or read from it.
    root_of(settings).rename(tmp_path / "new")
    shutil.copytree(tmp_path / "old" / "objects", root_of(settings))
    assert await refusal(settings, tmp_path / "backup", force=True) == "STORE_WRONG"
    with pytest.raises(StemTubeError) as refused:
        await backup(settings, tmp_path / "second", ignore_progress)
    assert refused.value.reason == "STORE_WRONG"
    assert marker_of(settings) == STORE_ID
    # The same backup again, into the store that it was restored to.
    shutil.rmtree(root_of(settings))
    (tmp_path / "new").rename(root_of(settings))
    await restore(settings, tmp_path / "backup", ignore_progress, force=True)
    assert store_id_of(settings) == marker_of(settings) != first
    await expect_all(settings)


@pytest.mark.parametrize("damage", ["", "overwrite_header"], ids=["whole", "damaged"])
async def test_nothing_is_restored_into_the_mount_point_of_a_store_that_is_away(
    settings: SuiteSettings, tmp_path: Path, damage: str
) -> None:
    await fill(settings)
    await backup(settings, tmp_path / "backup", ignore_progress)
    if damage:
        DAMAGE[damage](file_of(settings, "download"))
    root_of(settings).rename(tmp_path / "away")
    root_of(settings).mkdir()
    before = file_of(settings, "auth").read_bytes()
    assert await refusal(settings, tmp_path / "backup", force=True) == "STORE_AWAY"
    assert files_of(root_of(settings)) == set()
    assert file_of(settings, "auth").read_bytes() == before
    # A new disk can be restored to.
    await restore(settings, tmp_path / "backup", ignore_progress, force=True, adopt_store=True)
    assert store_id_of(settings) == marker_of(settings)
    await expect_all(settings)


async def test_nothing_is_restored_into_another_librarys_store(settings: SuiteSettings, tmp_path: Path) -> None:
    await fill(settings)
    await backup(settings, tmp_path / "backup", ignore_progress)
    shutil.rmtree(settings.data_dir)
    await open_store(settings).put(MARKER, OTHER_ID.encode())
    assert await refusal(settings, tmp_path / "backup", force=True) == "STORE_WRONG"
    assert files_of(root_of(settings)) == {MARKER}
    # If only the databases are lost, the backup has the store's id.
    await open_store(settings).put(MARKER, STORE_ID.encode())
    await restore(settings, tmp_path / "backup", ignore_progress, force=True)
    await expect_all(settings)


async def test_a_store_that_goes_away_during_a_restore_is_not_filled_elsewhere(
    settings: SuiteSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(settings)
    await backup(settings, tmp_path / "backup", ignore_progress)
    shutil.rmtree(settings.data_dir)
    away = tmp_path / "away"

    def lose(what: str, done: int, _total: int) -> None:
        if what == "objects" and done and not away.exists():
            root_of(settings).rename(away)
            root_of(settings).mkdir()

    monkeypatch.setattr("cli.backup.backup.AT_ONCE", 1)
    with pytest.raises(StemTubeError) as refused:
        await restore(settings, tmp_path / "backup", lose, force=False)
    assert refused.value.reason == "STORE_AWAY"
    assert files_of(root_of(settings)) == set()
    assert not file_of(settings, "download").exists()
    root_of(settings).rmdir()
    away.rename(root_of(settings))
    # No library uses a partly restored store; the restore is repeated.
    assert "STORE_WRONG" in await problem(settings, tmp_path)
    await restore(settings, tmp_path / "backup", ignore_progress, force=True)
    assert store_id_of(settings) == marker_of(settings)
    await expect_all(settings)


async def problem(settings: SuiteSettings, folder: Path) -> str:
    """Why a library with the store id in the backup cannot use the present store."""
    url = f"sqlite:///{folder}/{uuid.uuid4().hex}.sqlite"
    await migrate(url, "services.download")
    async with Database(url) as database:
        async with database.write() as session:
            session.add(StoreIdentity(id=1, store_id=STORE_ID, confirmed=True))
        return await GuardedStore(ObjectStore.from_url(settings.storage_url), database).problem()


async def test_a_restored_backup_without_a_store_id_is_marked_by_the_library(
    settings: SuiteSettings, tmp_path: Path
) -> None:
    await fill(settings)
    await backup(settings, tmp_path / "backup", ignore_progress)
    shutil.rmtree(settings.data_dir)
    copy = tmp_path / "backup" / "databases" / "download"
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("DROP TABLE store_identity")
        connection.commit()
    about = json.loads((tmp_path / "backup" / "backup.json").read_text())
    for entry in about["databases"]:
        if entry["name"] == "download":
            entry |= asdict(entry_of(copy, "download"))
    (tmp_path / "backup" / "backup.json").write_text(json.dumps(about))
    await restore(settings, tmp_path / "backup", ignore_progress, force=False)
    assert not (root_of(settings) / MARKER).exists()
    await expect_all(settings)
