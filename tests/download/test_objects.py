"""Objects are there as long as a track needs them, and no longer."""

from pathlib import Path
from typing import Any

import pytest

from services.common import audio
from services.common.database import Database
from services.download.acquire import Acquirer
from services.download.config import DownloadSettings
from services.download.removal import derived_key
from services.download.store import AudioFacts, Library
from services.download.tables import Track
from tests.common.audio_files import music, with_soundfile
from tests.download.conftest import Acquiring


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return with_soundfile(tmp_path / "song.wav", music(2))


@pytest.fixture
def other(song: Path, tmp_path: Path) -> Path:
    """The same sound in another file."""
    path = tmp_path / "other.wav"
    path.write_bytes(song.read_bytes() + b"LIST\x04\x00\x00\x00INFO")
    return path


async def test_an_upload_keeps_its_file_though_the_last_track_with_it_goes_just_then(
    acquiring: Acquiring, settings: DownloadSettings, song: Path
) -> None:
    first = await acquiring.upload("anna", song)
    kept = await acquiring.keys()
    assert kept == [first.audio_key, first.peaks_key]

    class SlowLibrary(Library):
        """Another user deletes the track between the look for its objects and the commit of this one."""

        async def add_upload(self, user_id: str, title: str, artist: str, facts: AudioFacts) -> tuple[Track, bool]:
            await acquiring.shelf.remove("anna", first.id, for_good=True)
            assert await acquiring.trash.empty() == 1
            assert facts.audio_key not in await acquiring.keys()
            return await super().add_upload(user_id, title, artist, facts)

    async with Database(settings.database_url) as database:
        slow = Acquirer(settings, acquiring.objects, SlowLibrary(database))
        await acquiring.upload("ben", song, slow)
        await slow.close()
    assert await acquiring.keys() == kept


async def test_the_same_sound_in_another_file_leaves_no_second_one(
    acquiring: Acquiring, song: Path, other: Path
) -> None:
    track = await acquiring.upload("anna", song)
    before = await acquiring.keys()
    assert (await acquiring.upload("anna", other)).id == track.id
    assert await acquiring.keys() == before


def stems(place: str) -> list[dict[str, Any]]:
    facts = {"duration_seconds": 2.0, "sample_rate_hz": 44_100, "silent": False, "gain": 1.0}
    return [
        {"name": name, "audio_key": f"stems/{place}/{name}.flac", "peaks_key": f"stems/{place}/{name}.peaks", **facts}
        for name in ("vocals", "accompaniment")
    ]


async def keep_stems(acquiring: Acquiring, track: Track, place: str) -> None:
    made = stems(place)
    for stem in made:
        await acquiring.objects.put(stem["audio_key"], b"sound")
        await acquiring.objects.put(stem["peaks_key"], b"peaks")
    await acquiring.remover.remove(await acquiring.library.set_stems(track.id, "spleeter_2stems", made, {}))


async def test_replaced_stems_go_when_the_last_track_has_replaced_them(acquiring: Acquiring, song: Path) -> None:
    mine, his = [await acquiring.upload(user, song) for user in ("anna", "ben")]
    for track in (mine, his):
        await keep_stems(acquiring, track, "job-1/a")
    old = stems("job-1/a")
    await acquiring.objects.put(derived_key(old[0]["audio_key"], audio.FORMATS[0]), b"other")
    everything = set(await acquiring.keys())
    await keep_stems(acquiring, mine, "job-2/b")
    assert everything < set(await acquiring.keys()), "the other track still needs them"
    await keep_stems(acquiring, his, "job-2/b")
    await keep_stems(acquiring, his, "job-2/b")
    new = {key for stem in stems("job-2/b") for key in (stem["audio_key"], stem["peaks_key"])}
    assert set(await acquiring.keys()) == {mine.audio_key, mine.peaks_key} | new
