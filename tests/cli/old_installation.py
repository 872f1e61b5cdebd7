"""A small installation of the old StemTube: its database and its files."""

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from werkzeug.security import generate_password_hash

from services.common import audio

SCHEMA = """
CREATE TABLE users (id INTEGER PRIMARY KEY, username TEXT NOT NULL, password_hash TEXT NOT NULL, email TEXT,
    is_admin BOOLEAN DEFAULT 0, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE global_downloads (id INTEGER PRIMARY KEY, video_id TEXT, title TEXT, thumbnail TEXT, file_path TEXT,
    media_type TEXT, quality TEXT, file_size INTEGER, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    extracted BOOLEAN DEFAULT 0, extraction_model TEXT, stems_paths TEXT, detected_bpm REAL, detected_key TEXT,
    analysis_confidence REAL, chords_data TEXT, beat_offset REAL, structure_data TEXT, lyrics_data TEXT);
CREATE TABLE user_downloads (id INTEGER PRIMARY KEY, user_id INTEGER, global_download_id INTEGER, video_id TEXT);
"""
STALE = "/home/somebody/StemTube/core/downloads"
SECONDS = 12.0
RESULTS = {
    "detected_bpm": 120.0,
    "detected_key": "F# minor",
    "analysis_confidence": 0.8,
    "beat_offset": 0.25,
    "chords_data": json.dumps([{"timestamp": 0.5, "chord": "F#m7"}, {"timestamp": 4.0, "chord": "D/F#"}]),
    "structure_data": json.dumps(
        [{"start": 0.0, "end": 6.0, "label": "Verse"}, {"start": 6, "end": 12.1, "label": "x"}]
    ),
    "lyrics_data": json.dumps(
        {
            "language": "en",
            "segments": [
                {
                    "start": 1.0,
                    "end": 2.0,
                    "text": " Hello there ",
                    "words": [{"start": 1.0, "end": 1.5, "word": " Hello", "probability": 0.9}],
                }
            ],
        }
    ),
}


@dataclass
class OldFolder:
    """Creates the installation step by step."""

    folder: Path

    def __post_init__(self) -> None:
        self.downloads.mkdir(parents=True)
        self._execute(SCHEMA)

    @property
    def database(self) -> Path:
        return self.folder / "stemtubes.db"

    @property
    def downloads(self) -> Path:
        return self.folder / "core" / "downloads"

    def _execute(self, script: str, values: dict[str, Any] | None = None) -> None:
        with sqlite3.connect(self.database) as connection:
            if values is None:
                connection.executescript(script)
            else:
                connection.execute(script, values)
        connection.close()

    def insert(self, table: str, **values: Any) -> None:
        names = ", ".join(values)
        self._execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join(':' + name for name in values)})", values)

    def add_user(self, number: int, name: str, password: str = "guitar hero", **more: Any) -> None:
        hashed = generate_password_hash(password, method="scrypt:1024:8:1")
        self.insert("users", **{"id": number, "username": name, "password_hash": hashed, **more})

    def add_song(self, number: int, video_id: str, *users: int, **more: Any) -> Path:
        """A song of 12 s with a file, for some users."""
        path = self.downloads / f"song {number}" / "audio.mp3"
        write(path, number)
        row = {
            "title": f"Song {number}",
            "file_path": f"{STALE}/song {number}/audio.mp3",
            "media_type": "audio",
            **more,
        }
        self.insert("global_downloads", id=number, video_id=video_id, **row)
        for user in users:
            self.insert("user_downloads", user_id=user, global_download_id=number, video_id=video_id)
        return path

    def add_stems(self, number: int, *names: str) -> str:
        """Stems as files, and the content of `stems_paths`."""
        for place, name in enumerate(names):
            write(self.downloads / f"song {number}" / f"{name}.mp3", 100 * number + place)
        return json.dumps({name: f"{STALE}/song {number}/{name}.mp3" for name in names})

    def state(self) -> dict[str, tuple[int, bytes]]:
        """The content of the folder, to check that nothing changes."""
        return {
            str(path.relative_to(self.folder)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
            for path in sorted(self.folder.rglob("*"))
        }


def write(path: Path, seed: int) -> None:
    """A tone of 12 s, a different one for each seed."""
    path.parent.mkdir(exist_ok=True)
    tone = 220 * (1 + seed % 7) + seed
    time = np.arange(int(SECONDS * 44_100)) / 44_100
    sound = 0.3 * np.sin(2 * np.pi * tone * time).astype(np.float32)
    audio.encode(np.stack([sound, sound]), 44_100, path, "mp3")
