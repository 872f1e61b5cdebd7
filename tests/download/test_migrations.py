"""The library's database from its first version on, with data in it."""

import json
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import text

from services.common.errors import LimitExceededError
from services.common.storage.database import Database, migrate
from services.download.tables import Base
from services.download.tracks.sorting import key_number, search_text, sort_artist, sort_title
from services.download.upkeep.reservations import Reservations
from tests.common.postgres import create_database
from tests.common.schema import differences

TITLES = ["Élan  vital", "AC/DC\u2019s Straße", "ﷺ" * 300, ""]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return create_database() if request.param == "postgresql" else f"sqlite:///{tmp_path}/library.sqlite"


async def fill_first_version(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracks, users, stems and analyses as the first version keeps them."""
    with monkeypatch.context() as patch:
        upgrade = command.upgrade
        patch.setattr(command, "upgrade", lambda config, _head: upgrade(config, "0001"))
        await migrate(url, "services.download")
    beats = {"tempo": {"bpm": 98.5, "confidence": 0.9}, "beats": [{"time": 0.5}, {"time": 1.1}], "beatsPerBar": 4}
    key = {"tonic": "Db", "mode": "minor", "confidence": 0.5}
    now = "2026-10-01 12:00:00+00:00"
    async with Database(url) as database, database.write() as session:
        for number, title in enumerate(TITLES):
            await session.execute(
                text(
                    "INSERT INTO tracks (id, title, artist, owner_id, content_hash, audio_key, peaks_key, suffix, "
                    "duration_seconds, sample_rate_hz, channels, loudness_lufs, create_time) VALUES (:id, :title, "
                    "'The Artist', 'anna', :id, 'originals/a', 'peaks/a', 'flac', 61.5, 44100, 2, -9.5, :now)"
                ),
                {"id": f"t{number}", "title": title, "now": now},
            )
            for user in ("anna", "ben"):
                await session.execute(
                    text("INSERT INTO access (user_id, track_id, create_time) VALUES (:user, :id, :now)"),
                    {"user": user, "id": f"t{number}", "now": now},
                )
        for part, content in (("beats", beats), ("key", key)):
            await session.execute(
                text("INSERT INTO analyses (track_id, part, content) VALUES ('t0', :part, :content)"),
                {"part": part, "content": json.dumps(content)},
            )
        await session.execute(
            text(
                "INSERT INTO stems (track_id, model, name, position, audio_key, peaks_key, duration_seconds, "
                "sample_rate_hz, silent, gain, made_by) VALUES ('t0', 'm', 'vocals', 0, 'stems/v', 'stems/p', 61.5, "
                "44100, false, 1.0, '{}')"
            )
        )


async def test_migrations_create_the_tables_of_the_code(url: str) -> None:
    await migrate(url, "services.download")
    async with Database(url) as database:
        assert await differences(database, Base.metadata) == []


async def test_a_first_library_is_whole_after_the_upgrade(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill_first_version(url, monkeypatch)
    await migrate(url, "services.download")
    await migrate(url, "services.download")
    async with Database(url) as database, database.read() as session:
        assert await differences(database, Base.metadata) == []
        for table, count in (("tracks", 4), ("access", 8), ("stems", 1), ("analyses", 2)):
            assert await session.scalar(text(f"SELECT count(*) FROM {table}")) == count
        rows = await session.execute(
            text(
                "SELECT user_id, track_id, sort_title, sort_artist, search_text, tempo_bpm, key_number, "
                "duration_seconds, favourite, remove_time FROM access ORDER BY user_id, track_id"
            )
        )
        assert [tuple(row) for row in rows] == [
            (
                *(user, f"t{number}", sort_title(title), sort_artist("The Artist", title)),
                *(search_text(title, "The Artist"), 0.0 if number else 98.5),
                *(-1 if number else key_number("C#", "minor"), 61.5, False, None),
            )
            for user in ("anna", "ben")
            for number, title in enumerate(TITLES)
        ]
        summary = await session.scalar(text("SELECT summary FROM analyses WHERE part = 'beats'"))
        kept = json.loads(summary) if isinstance(summary, str) else summary
        assert kept == {"tempo": {"bpm": 98.5, "confidence": 0.9}, "beatsPerBar": 4}


async def test_uploads_that_have_begun_keep_their_room(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        upgrade = command.upgrade
        patch.setattr(command, "upgrade", lambda config, _head: upgrade(config, "0005"))
        await migrate(url, "services.download")
    async with Database(url) as database:
        async with database.write() as session:
            for name, track in (("begun", ""), ("done", "t")):
                await session.execute(
                    text(
                        "INSERT INTO uploads (id, user_id, filename, client_metadata, size_bytes, offset_bytes, parts, "
                        "track_id, job_id, expire_time) VALUES (:id, 'anna', 'a', '', 7, 0, '[]', :track, '', :time)"
                    ),
                    {"id": name, "track": track, "time": "2099-10-01 12:00:00+00:00"},
                )
        await migrate(url, "services.download")
        async with database.read() as session:
            rows = (await session.execute(text("SELECT id, user_id, size_bytes FROM reservations"))).all()
        assert [tuple(row) for row in rows] == [("begun", "anna", 7)]
        with pytest.raises(LimitExceededError):
            await Reservations(database, 10).expect("anna", 4)
        await Reservations(database, 10).expect("anna", 3)
