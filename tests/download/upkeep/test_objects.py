"""Objects are kept as long as a track needs them, and then removed."""

import base64
from pathlib import Path
from typing import Any

import pytest
from mutagen.flac import FLAC, Picture
from mutagen.id3 import PictureType

from services.common import audio
from services.common.storage.database import Database
from services.download.config import DownloadSettings
from services.download.tables import Track
from services.download.tracks.repository import AudioFacts, Grant, SongFacts, TrackRepository
from services.download.upkeep.trash import derived_key
from services.download.uploads.acquire import Acquirer
from songs.small_songs import music
from tests.common.audio_files import with_soundfile
from tests.download.conftest import RunningLibrary

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return with_soundfile(tmp_path / "song.wav", music(2))


@pytest.fixture
def other(song: Path, tmp_path: Path) -> Path:
    """The same sound in another file."""
    path = tmp_path / "other.wav"
    path.write_bytes(song.read_bytes() + b"LIST\x04\x00\x00\x00INFO")
    return path


async def test_an_upload_keeps_a_file_that_another_track_removes_meanwhile(
    library: RunningLibrary, settings: DownloadSettings, song: Path
) -> None:
    first = await library.upload("anna", song)
    kept = await library.keys()
    assert kept == [first.audio_key, first.peaks_key]

    class SlowRepository(TrackRepository):
        """Has another user delete the track after its objects were found and before this track is stored."""

        async def add_upload(
            self,
            user_id: str,
            song: SongFacts,
            facts: AudioFacts,
            *,
            tagged: bool = False,
            reservation_id: str = "",
        ) -> tuple[Track, Grant]:
            await library.user_tracks.remove("anna", first.id, for_good=True)
            assert await library.trash.empty() == 1
            assert facts.audio_key not in await library.keys()
            return await super().add_upload(user_id, song, facts)

    async with Database(settings.database_url) as database:
        slow = Acquirer(settings, library.objects, SlowRepository(database))
        await library.upload("ben", song, slow)
        await slow.close()
    assert await library.keys() == kept


async def test_the_same_sound_in_another_file_is_stored_once(library: RunningLibrary, song: Path, other: Path) -> None:
    track = await library.upload("anna", song)
    before = await library.keys()
    assert (await library.upload("anna", other)).id == track.id
    assert await library.keys() == before


def stems(place: str) -> list[dict[str, Any]]:
    facts = {"duration_seconds": 2.0, "sample_rate_hz": 44_100, "silent": False, "gain": 1.0}
    return [
        {"name": name, "audio_key": f"stems/{place}/{name}.flac", "peaks_key": f"stems/{place}/{name}.peaks", **facts}
        for name in ("vocals", "accompaniment")
    ]


async def keep_stems(library: RunningLibrary, track: Track, place: str) -> None:
    made = stems(place)
    for stem in made:
        await library.objects.put(stem["audio_key"], b"sound")
        await library.objects.put(stem["peaks_key"], b"peaks")
    await library.remover.remove(await library.keep_stems(track.id, made))


async def test_replaced_stems_are_removed_with_their_last_track(library: RunningLibrary, song: Path) -> None:
    mine, his = [await library.upload(user, song) for user in ("anna", "ben")]
    for track in (mine, his):
        await keep_stems(library, track, "job-1/a")
    old = stems("job-1/a")
    await library.objects.put(derived_key(old[0]["audio_key"], audio.FORMATS[0]), b"other")
    everything = set(await library.keys())
    await keep_stems(library, mine, "job-2/b")
    assert everything < set(await library.keys()), "the other track still needs them"
    await keep_stems(library, his, "job-2/b")
    await keep_stems(library, his, "job-2/b")
    new = {key for stem in stems("job-2/b") for key in (stem["audio_key"], stem["peaks_key"])}
    assert set(await library.keys()) == {mine.audio_key, mine.peaks_key} | new


async def test_the_picture_in_a_file_is_kept_as_long_as_its_track(library: RunningLibrary, tmp_path: Path) -> None:
    path = with_picture(with_soundfile(tmp_path / "song.flac", music(2)))
    track = await library.upload("anna", path)
    assert track.cover_key.endswith(".png")
    assert await library.objects.get(track.cover_key) == PNG
    assert track.cover_key in await library.keys()
    assert not [key for key in await library.keys() if key.startswith("uploads/")]
    same = await library.upload("ben", path)
    assert same.cover_key == track.cover_key
    await library.user_tracks.remove("anna", track.id, for_good=True)
    assert await library.trash.empty() == 1
    assert track.cover_key in await library.keys()
    await library.user_tracks.remove("ben", same.id, for_good=True)
    assert await library.trash.empty() == 1
    assert not await library.keys()


async def test_a_picture_that_no_browser_shows_is_left_out(library: RunningLibrary, tmp_path: Path) -> None:
    path = with_picture(with_soundfile(tmp_path / "song.flac", music(2)), b"<svg onload='alert(1)'/>")
    assert (await library.upload("anna", path)).cover_key == ""


def with_picture(path: Path, data: bytes = PNG) -> Path:
    picture = Picture()
    picture.data, picture.type, picture.mime = data, PictureType.COVER_FRONT, "image/png"
    file = FLAC(path)
    file.add_picture(picture)
    file.save()
    return path
