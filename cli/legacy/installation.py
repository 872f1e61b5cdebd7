"""Reads an installation of the old StemTube, without changing it: its SQLite file and its downloads."""

import json
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cli.api import ApiError

Row = dict[str, Any]
TABLES = frozenset({"users", "global_downloads", "user_downloads"})
DOWNLOADS = "downloads"
VIDEO_ID = re.compile(r"(?!upload)[A-Za-z0-9_-]{11}")
# Files of a SQLite database; the last writes may be only in those beside the main one.
COMPANIONS = ("", "-wal", "-journal")


@dataclass(frozen=True, slots=True)
class OldUser:
    """An account, with its password's hash in werkzeug's format."""

    id: int
    username: str
    email: str
    password_hash: str
    admin: bool
    create_time: datetime | None


@dataclass(frozen=True, slots=True)
class OldTrack:
    """A row of `global_downloads`, with its users; paths and JSON are unchanged."""

    video_id: str
    title: str
    row: Row
    user_ids: list[int] = field(default_factory=list)

    @property
    def is_upload(self) -> bool:
        """Whether a user uploaded the file; otherwise `video_id` is YouTube's."""
        return VIDEO_ID.fullmatch(self.video_id) is None

    @property
    def link(self) -> str:
        """The origin of the song."""
        return f"https://www.youtube.com/watch?v={self.video_id}"


class OldInstallation:
    """The contents of an installation.

    Args:
        folder: of the installation; only read.

    Raises:
        ApiError: the folder has no database of the old StemTube, or it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ApiError(f"there is no folder {folder}")
        self._downloads = [place / DOWNLOADS for place in _places(folder) if (place / DOWNLOADS).is_dir()]
        try:
            tables = _read(_database(folder))
        except (sqlite3.Error, OSError) as error:
            raise ApiError(f"the database in {folder} cannot be read: {error}") from None
        self.users = [_user(row) for row in tables["users"]]
        self.tracks, self.strays = _tracks(tables["global_downloads"], tables["user_downloads"])

    def find(self, text: object) -> Path | None:
        """Finds a file by its stored path; only the part after `downloads/` counts, as the folder may have moved."""
        if not isinstance(text, str) or not text or "\0" in text:
            return None
        parts = text.replace("\\", "/").split("/")
        for number in range(len(parts) - 1, 0, -1):
            if parts[number - 1] != DOWNLOADS:
                continue
            for root in self._downloads:
                file = root.joinpath(*parts[number:])
                if file.is_file() and file.resolve().is_relative_to(root.resolve()):
                    return file
        as_it_stands = Path(text)
        return as_it_stands if as_it_stands.is_absolute() and as_it_stands.is_file() else None


def _places(folder: Path) -> Iterator[Path]:
    """The folder and everything at most two levels below it."""
    yield folder
    for pattern in ("*", "*/*"):
        yield from sorted(place for place in folder.glob(pattern) if place.is_dir())


def _database(folder: Path) -> Path:
    found = [file for place in _places(folder) for file in sorted(place.iterdir()) if _is_database(file)]
    if len(found) != 1:
        names = ", ".join(str(file) for file in found)
        raise ApiError(f"several databases: {names}" if found else f"no database of the old StemTube is in {folder}")
    return found[0]


def _is_database(file: Path) -> bool:
    if file.suffix not in (".db", ".sqlite", ".sqlite3") or not file.is_file():
        return False
    with _snapshot(file) as database:
        try:
            rows = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        except sqlite3.DatabaseError:
            return False
    return {row["name"] for row in rows} >= TABLES


@contextmanager
def _snapshot(file: Path) -> Iterator[sqlite3.Connection]:
    """Opens a copy of a SQLite file, because SQLite would write beside the original to recover its log."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        for companion in COMPANIONS:
            source = file.with_name(file.name + companion)
            if source.exists():
                shutil.copyfile(source, copy.with_name(copy.name + companion))
        with closing(sqlite3.connect(copy)) as connection:
            connection.row_factory = sqlite3.Row
            connection.text_factory = lambda text: text.decode("utf-8", "replace")
            yield connection


def _read(file: Path) -> dict[str, list[Row]]:
    with _snapshot(file) as database:
        # Older versions have fewer columns; missing ones count as null.
        return {
            table: [dict(row) for row in database.execute(f"SELECT * FROM {table} ORDER BY rowid")]  # nosec B608  # ours
            for table in TABLES
        }


def _user(row: Row) -> OldUser:
    return OldUser(
        id=row["id"],
        username=str(row.get("username") or ""),
        email=str(row.get("email") or ""),
        password_hash=str(row.get("password_hash") or ""),
        admin=bool(row.get("is_admin")),
        create_time=_moment(row.get("created_at")),
    )


def _tracks(rows: list[Row], owned: list[Row]) -> tuple[list[OldTrack], list[Row]]:
    """The tracks in the order of their creation, and rows of `user_downloads` without a track."""
    tracks = {row["id"]: OldTrack(str(row.get("video_id") or ""), str(row.get("title") or ""), row) for row in rows}
    by_video = {track.video_id: track for track in reversed(tracks.values()) if track.video_id}
    strays = []
    for row in owned:
        track = tracks.get(row.get("global_download_id")) or by_video.get(str(row.get("video_id") or ""))
        if track is None:
            strays.append(row)
        elif row.get("user_id") not in track.user_ids:
            track.user_ids.append(row["user_id"])
    return list(tracks.values()), strays


def _moment(text: object) -> datetime | None:
    """SQLite's CURRENT_TIMESTAMP, which is in UTC."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def parse_json(text: object) -> Any:
    """A column with JSON; None if it is empty.

    Raises:
        ValueError: it is not JSON.
    """
    if text is None or (isinstance(text, str) and not text.strip()):
        return None
    try:
        return json.loads(str(text))
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
