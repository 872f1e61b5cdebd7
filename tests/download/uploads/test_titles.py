"""A file without tags gets its title from its name; notes on the file come with the track."""

from pathlib import Path

import pytest

from services.download.tracks.messages import track_message
from services.download.tracks.repository import AudioFacts, Grant, SongFacts
from services.download.tracks.text import without_directions
from services.download.uploads.titles import title_of
from songs.small_songs import music
from tests.common.audio_files import RATE, with_ffmpeg, with_soundfile
from tests.common.damaged_files import without_end_flag
from tests.download.conftest import RunningLibrary


@pytest.mark.parametrize(
    ("filename", "title"),
    [
        ("song.mp3", "song"),
        ("Mr. Brightside", "Mr. Brightside"),
        ("Mr. Brightside.FLAC", "Mr. Brightside"),
        ("01. Intro", "01. Intro"),
        ("Vol. 2", "Vol. 2"),
        ("St. Anger.m4a", "St. Anger"),
        ("a.b.c.opus", "a.b.c"),
        (".mp3", ".mp3"),
        ("song.", "song."),
        ("", "Untitled"),
        ("two\nlines.wav", "two lines"),
        ("\u202egnos.wav", "gnos"),
        ("👩\u200d👩\u200d👧.wav", "👩\u200d👩\u200d👧"),
        ("x" * 251 + ".wav", "x" * 251),
    ],
)
def test_only_endings_of_sound_and_video_are_cut_off_a_title(filename: str, title: str) -> None:
    assert title_of(filename) == title


def test_marks_of_direction_never_reach_a_title() -> None:
    assert without_directions(" \u202eabc\u2069 ") == "abc"
    assert without_directions("\u0645\u06cc\u200c\u062e") == "\u0645\u06cc\u200c\u062e"


async def test_notes_on_the_file_come_with_the_track(library: RunningLibrary, tmp_path: Path) -> None:
    short = with_ffmpeg(tmp_path / "Mr. Brightside", music(0.5), "libmp3lame", muxer="mp3", options={"write_xing": "0"})
    short.write_bytes(short.read_bytes()[:-50])
    track = await library.upload("anna", short)
    message = track_message(await library.tracks.track_of("anna", track.id))
    (note,) = message.file_notes
    assert (message.title, note.reason) == ("Mr. Brightside", "MAY_BE_CUT_OFF")
    assert note.message.startswith("the file ends in the middle of a packet")
    whole = with_soundfile(tmp_path / "song.ogg", music(0.5))
    whole.write_bytes(without_end_flag(whole.read_bytes()))
    track = await library.upload("anna", whole)
    assert not track_message(await library.tracks.track_of("anna", track.id)).file_notes


async def test_the_same_sound_with_other_tags_offers_their_names(library: RunningLibrary) -> None:
    tracks, facts = library.tracks, AudioFacts("o", "p", "", "hash", "mp3", 1.0, RATE, 2, -12.0)
    first, _ = await tracks.add_upload("anna", SongFacts("01 track", ""), facts)

    async def offer_of(song: SongFacts, *, tagged: bool) -> tuple[str, str, str]:
        track, grant = await tracks.add_upload("anna", song, facts, tagged=tagged)
        assert (track.id, grant) == (first.id, Grant.NONE)
        message = track_message(await tracks.track_of("anna", first.id))
        return message.title, message.offered_title, message.offered_artist

    assert await offer_of(SongFacts("another name", ""), tagged=False) == ("01 track", "", "")
    assert await offer_of(SongFacts("Song", "Band"), tagged=True) == ("01 track", "Song", "Band")
    names = {"title": "Song", "artist": "Band"}
    changed = track_message(await library.user_tracks.update("anna", first.id, names))
    assert (changed.title, changed.artist, changed.offered_title) == ("Song", "Band", "")
    assert await offer_of(SongFacts("Song", "Band"), tagged=True) == ("Song", "", "")
