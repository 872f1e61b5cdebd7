"""Measures the cost of a page of the library: `python -m bench.library [--tracks N] [--users N] [--keep FILE]`.

Builds a SQLite library (100,000 tracks of links; 1,000 users with about 300 tracks each, and one with 10,000), and
requests first and later pages of 50 tracks like ListTracks, up to the serialised response, in this process.
"""

import argparse
import asyncio
import random
import statistics
import tempfile
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert
from sqlalchemy.orm import DeclarativeBase

from services.common.storage.database import Database, migrate
from services.download.tables import Access, Analysis, Playlist, PlaylistTrack, Stem, Track
from services.download.tracks.listing import read_listing
from services.download.tracks.messages import track_message
from services.download.tracks.results import summary_of
from services.download.tracks.sorting import key_number, search_text, sort_artist, sort_title
from services.download.tracks.user_tracks import UserTracks
from stemtube.download.v1 import track_pb2 as pb

PAGE = 50
CALLS = 40
EACH, HEAVY = 300, 10_000
BATCH = 5000
STEMS = ("vocals", "drums", "bass", "other")
# Titles and artists are made of these.
WORDS = (
    *("love", "night", "river", "blue", "fire", "heart", "road", "dance", "summer", "rain", "gold", "shadow", "light"),
    *("moon", "city", "dream", "wild", "ocean", "stone", "paper", "silver", "winter", "glass", "thunder", "velvet"),
    *("morning", "garden", "mirror", "highway", "ghost", "honey", "desert", "engine", "island", "signal"),
)
TONICS = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
# As many as in a short song, because data that lists do not show must not make them slower.
BEATS = [{"time": round(0.5 * n, 3), "position": n % 4 + 1} for n in range(120)]
MADE_BY = {"backend": "madmom", "version": "1"}

QUERIES: dict[str, dict[str, Any]] = {
    "newest first": {},
    "by title": {"order": pb.TRACK_ORDER_TITLE},
    "by artist, descending": {"order": pb.TRACK_ORDER_ARTIST, "descending": True},
    "by tempo": {"order": pb.TRACK_ORDER_TEMPO},
    "tempo 118 to 122": {"min_bpm": 118, "max_bpm": 122},
    "key A minor, by title": {"key_tonic": "A", "key_mode": "minor", "order": pb.TRACK_ORDER_TITLE},
    "favourites": {"favourites": True},
    "search, one word": {"query": "Thunder"},
    "search, two words, by title": {"query": "gold riv", "order": pb.TRACK_ORDER_TITLE},
    "search, nothing found": {"query": "xylophone"},
    "search, key and tempo": {"query": "night", "key_mode": "major", "min_bpm": 100, "max_bpm": 140},
}


async def build(database: Database, tracks: int, users: int) -> tuple[str, str]:
    """Fills a library; returns the names of the user with the most tracks and of an ordinary user."""
    dice = random.Random(1)
    ids = [uuid.UUID(int=dice.getrandbits(128)).hex for _ in range(tracks)]
    facts = {track_id: _facts(dice) for track_id in ids}
    now = datetime(2026, 11, 1, tzinfo=UTC)

    def track_rows() -> Iterator[dict[str, Any]]:
        for track_id in ids:
            yield {
                "id": track_id,
                "title": facts[track_id]["title"],
                "artist": facts[track_id]["artist"],
                "source_url": f"https://music.example/{track_id}",
                "owner_id": None,
                "content_hash": track_id,
                "audio_key": f"originals/{track_id}",
                "peaks_key": f"peaks/{track_id}",
                "suffix": "mp3",
                "duration_seconds": facts[track_id]["seconds"],
                "sample_rate_hz": 44_100,
                "channels": 2,
                "loudness_lufs": -9.0,
                "create_time": now,
                "size_bytes": 8_000_000,
            }

    def stem_rows() -> Iterator[dict[str, Any]]:
        for track_id in ids:
            for position, name in enumerate(STEMS):
                yield {
                    "track_id": track_id,
                    "model": "htdemucs",
                    "name": name,
                    "position": position,
                    "audio_key": f"stems/{track_id}/a/{name}.flac",
                    "peaks_key": f"stems/{track_id}/a/{name}.peaks",
                    "duration_seconds": facts[track_id]["seconds"],
                    "sample_rate_hz": 44_100,
                    "silent": False,
                    "gain": 1.0,
                    "made_by": MADE_BY,
                    "size_bytes": 15_000_000,
                }

    def analysis_rows() -> Iterator[dict[str, Any]]:
        for track_id in ids:
            tempo = {"bpm": facts[track_id]["bpm"], "confidence": 0.8}
            beats = {"tempo": tempo, "beats": BEATS, "beatsPerBar": 4, "madeBy": MADE_BY}
            tonic, mode = facts[track_id]["key"]
            key = {"tonic": tonic, "mode": mode, "confidence": 0.7, "madeBy": MADE_BY}
            for part, content in (("beats", beats), ("key", key)):
                yield {
                    "track_id": track_id,
                    "part": part,
                    "summary": summary_of(content),
                    "create_time": now,
                    "content": content,
                }

    def access_rows() -> Iterator[dict[str, Any]]:
        for number in range(users):
            for place, track_id in enumerate(dice.sample(ids, min(EACH if number else HEAVY, tracks))):
                own = facts[track_id]
                yield {
                    "user_id": f"user-{number}",
                    "track_id": track_id,
                    "create_time": now + timedelta(seconds=place),
                    "favourite": dice.random() < 0.05,
                    "notes": "",
                    "sort_title": sort_title(own["title"]),
                    "sort_artist": sort_artist(own["artist"], own["title"]),
                    "search_text": search_text(own["title"], own["artist"]),
                    "tempo_bpm": own["bpm"],
                    "key_number": key_number(*own["key"]),
                    "duration_seconds": own["seconds"],
                }

    for table, rows in ((Track, track_rows()), (Stem, stem_rows()), (Analysis, analysis_rows())):
        await _insert(database, table, rows)
    await _insert(database, Access, access_rows())
    return "user-0", f"user-{users // 2}"


async def _insert(database: Database, table: type[DeclarativeBase], rows: Iterator[dict[str, Any]]) -> None:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH:
            async with database.write() as session:
                await session.execute(insert(table), batch)
            batch = []
    if batch:
        async with database.write() as session:
            await session.execute(insert(table), batch)


def _facts(dice: random.Random) -> dict[str, Any]:
    return {
        "title": " ".join(dice.sample(WORDS, dice.randint(1, 4))).title(),
        "artist": " ".join(dice.sample(WORDS, 2)).title(),
        "bpm": round(dice.gauss(120, 25), 2),
        "key": (dice.choice(TONICS), dice.choice(("major", "minor"))),
        "seconds": round(dice.uniform(120, 360), 3),
    }


async def _playlist(database: Database, user_tracks: UserTracks, user: str) -> str:
    """Makes a playlist of a user's newest 200 tracks; returns its id."""
    listing = read_listing(pb.ListTracksRequest())
    newest = await user_tracks.tracks(user, listing, None, 200)
    now = datetime.now(UTC)
    playlist = Playlist(
        id=uuid.uuid4().hex, user_id=user, name="Set", notes="", create_time=now, change_time=now, revision=1
    )
    async with database.write() as session:
        session.add(playlist)
        await session.flush()
        session.add_all(
            PlaylistTrack(playlist_id=playlist.id, track_id=data.track.id, user_id=user, position=place)
            for place, (data, _) in enumerate(newest)
        )
    return playlist.id


async def measure(user_tracks: UserTracks, user: str, asked: dict[str, Any]) -> tuple[list[float], int]:
    """Requests pages through the list, and again from its start; returns milliseconds, and tracks on the first page."""
    seconds, token, first = [], "", -1
    for _ in range(CALLS):
        began = time.perf_counter()
        listing = read_listing(pb.ListTracksRequest(**asked))
        found = await user_tracks.tracks(user, listing, listing.read(token), PAGE + 1)
        response = pb.ListTracksResponse(tracks=[track_message(data, summary=True) for data, _ in found[:PAGE]])
        response.SerializeToString()
        seconds.append(time.perf_counter() - began)
        first = len(response.tracks) if first < 0 else first
        token = listing.token(found[PAGE - 1][1], found[PAGE - 1][0].track.id) if len(found) > PAGE else ""
    return [1000 * value for value in seconds], first


async def main() -> None:
    """Builds the library, or uses a kept one, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tracks", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=1_000)
    parser.add_argument("--keep", type=Path, help="keep the library in this file; use it if it exists")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = arguments.keep.absolute() if arguments.keep else Path(folder) / "library.sqlite"
        is_new = not file.exists()
        await migrate(f"sqlite:///{file}", "services.download")
        async with Database(f"sqlite:///{file}") as database:
            heavy, ordinary = "user-0", f"user-{arguments.users // 2}"
            if is_new:
                began = time.perf_counter()
                heavy, ordinary = await build(database, arguments.tracks, arguments.users)
                print(f"built in {time.perf_counter() - began:.0f} s, {file.stat().st_size / 1e6:.0f} MB")
            user_tracks = UserTracks(database, timedelta(days=7))
            for name, user in (("ordinary user", ordinary), (f"user of {HEAVY} tracks", heavy)):
                playlist = {"a playlist": {"playlist_id": await _playlist(database, user_tracks, user)}}
                for what, asked in (QUERIES | playlist).items():
                    times, found = await measure(user_tracks, user, asked)
                    ordered = sorted(times)
                    print(
                        f"{name}, {what}: median {statistics.median(ordered):.1f} ms, "
                        f"p95 {ordered[int(len(ordered) * 0.95)]:.1f} ms ({found} on the first page)"
                    )


if __name__ == "__main__":
    asyncio.run(main())
