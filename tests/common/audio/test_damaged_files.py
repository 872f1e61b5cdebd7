"""Files that every player plays are read in full length, with a note on what they lack; others are refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from services.common.audio import AudioInfo, Limits, check, decode
from services.common.errors import InvalidInputError
from songs.small_songs import music
from tests.common import damaged_files as damaged
from tests.common.audio_files import RATE, with_ffmpeg, with_soundfile

LIMITS = Limits()
SONG = music(2.0)
FRAME_SECONDS = 1152 / RATE


def read(path: Path, data: bytes | None = None) -> AudioInfo:
    if data is not None:
        path.write_bytes(data)
    return check(path, LIMITS)


def notes(info: AudioInfo) -> list[str]:
    return [note.reason for note in info.notes]


STREAMED: dict[str, Callable[[Path, np.ndarray, int], Path]] = {
    "song.wav": damaged.streamed_wav,
    "song.aiff": damaged.streamed_aiff,
    "song.au": damaged.streamed_au,
    "song.w64": damaged.streamed_w64,
    "song.caf": damaged.streamed_caf,
}


@pytest.mark.parametrize("size", damaged.PLACEHOLDERS)
@pytest.mark.parametrize("name", STREAMED)
def test_a_size_that_was_not_known_is_no_error(tmp_path: Path, name: str, size: int) -> None:
    info = read(STREAMED[name](tmp_path / name, SONG, size))
    assert (info.samples, notes(info)) == (SONG.shape[1], [])


@pytest.mark.parametrize("name", STREAMED)
def test_a_size_far_beyond_the_file_is_no_error(tmp_path: Path, name: str) -> None:
    assert read(STREAMED[name](tmp_path / name, SONG, 500_000_000)).samples == SONG.shape[1]


@pytest.mark.parametrize("name", STREAMED)
def test_a_file_that_lacks_a_fifth_of_its_bytes_is_cut_off(tmp_path: Path, name: str) -> None:
    path = STREAMED[name](tmp_path / name, SONG, SONG.shape[1] * 4 * 5 // 4)
    with pytest.raises(InvalidInputError) as caught:
        read(path)
    assert caught.value.reason == "TRUNCATED"


@pytest.mark.parametrize("name", STREAMED)
def test_a_file_that_lacks_a_few_hundredths_of_a_second_is_read_with_a_note(tmp_path: Path, name: str) -> None:
    info = read(STREAMED[name](tmp_path / name, SONG, SONG.shape[1] * 4 + 4 * RATE // 20))
    (note,) = info.notes
    assert (info.samples, note.reason) == (SONG.shape[1], "END_DAMAGED")
    assert note.message == "the last 0.05 s of the file are damaged or missing"


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, []), (1, []), (2**31, []), (2**36 - 1, []), (SONG.shape[1] * 2, ["LENGTH_DIFFERS"])],
)
def test_a_count_of_samples_that_contradicts_a_whole_flac_is_no_error(
    tmp_path: Path, count: int, expected: list[str]
) -> None:
    info = read(damaged.flac_counting(tmp_path / "song.flac", SONG, count))
    assert (info.samples, notes(info)) == (SONG.shape[1], expected)


@pytest.mark.parametrize(
    ("count", "expected"), [(0, []), (0x7FFFFFFF, []), (0xFFFFFFFF, []), (SONG.shape[1] * 2, ["LENGTH_DIFFERS"])]
)
def test_a_count_of_samples_that_contradicts_a_whole_wavpack_is_no_error(
    tmp_path: Path, count: int, expected: list[str]
) -> None:
    info = read(damaged.wavpack_counting(tmp_path / "song.wv", SONG, count))
    assert (info.samples, notes(info)) == (SONG.shape[1], expected)


OGG: dict[str, Callable[[Path], Path]] = {
    "vorbis.ogg": lambda path: with_soundfile(path, music(4.0)),
    "song.opus": lambda path: with_ffmpeg(path, music(4.0, rate=48000), "libopus", rate=48000, muxer="ogg"),
    "flac.oga": lambda path: with_ffmpeg(path, music(4.0), "flac", muxer="ogg"),
}


@pytest.mark.parametrize("name", OGG)
def test_an_ogg_file_needs_no_end_flag(tmp_path: Path, name: str) -> None:
    data = damaged.without_end_flag(OGG[name](tmp_path / name).read_bytes())
    info = read(tmp_path / name, data)
    assert info.duration_seconds == pytest.approx(damaged.ffmpeg_seconds(data))
    assert info.duration_seconds == pytest.approx(4.0, abs=0.02)
    assert notes(info) == []


@pytest.mark.parametrize("name", OGG)
def test_an_ogg_stream_may_be_joined_midway(tmp_path: Path, name: str) -> None:
    data = damaged.joined_midway(OGG[name](tmp_path / name).read_bytes())
    info = read(tmp_path / name, data)
    assert info.duration_seconds == pytest.approx(damaged.ffmpeg_seconds(data))
    assert 2.5 < info.duration_seconds < 4.0


@pytest.mark.parametrize("name", OGG)
def test_bytes_behind_the_last_page_are_ignored(tmp_path: Path, name: str) -> None:
    path = OGG[name](tmp_path / name)
    whole = read(path)
    info = read(path, path.read_bytes() + bytes(5000))
    assert (info.samples, notes(info)) == (whole.samples, [])


@pytest.fixture
def mp3(tmp_path: Path) -> bytes:
    """Two seconds without any tag."""
    return with_ffmpeg(
        tmp_path / "plain.mp3", SONG, "libmp3lame", options={"write_xing": "0", "id3v2_version": "0"}
    ).read_bytes()


@pytest.fixture
def tagged_mp3(tmp_path: Path) -> bytes:
    """Two seconds with an Info tag."""
    return with_ffmpeg(tmp_path / "tagged.mp3", SONG, "libmp3lame").read_bytes()


def test_the_last_frame_of_an_mp3_may_be_incomplete(tmp_path: Path, mp3: bytes) -> None:
    whole = read(tmp_path / "whole.mp3", mp3).duration_seconds
    frames = damaged.mp3_frames(mp3)
    half = b"".join(frames[:-1]) + frames[-1][: len(frames[-1]) // 2]
    for data in (mp3[:-1], half, half + damaged.id3v1(), frames[0][50:] + half[len(frames[0]) :]):
        info = read(tmp_path / "short.mp3", data)
        assert info.duration_seconds == pytest.approx(whole, abs=2.5 * FRAME_SECONDS)
        assert info.duration_seconds == pytest.approx(damaged.ffmpeg_seconds(data), abs=FRAME_SECONDS)
        assert notes(info) == ["MAY_BE_CUT_OFF"]


@pytest.mark.parametrize(("count", "expected"), [(1, []), (30, []), (300, ["LENGTH_DIFFERS"]), (0x7FFFFFFF, [])])
def test_a_count_of_frames_that_contradicts_a_whole_mp3_is_no_error(
    tmp_path: Path, mp3: bytes, tagged_mp3: bytes, count: int, expected: list[str]
) -> None:
    for data in (damaged.with_xing_count(tagged_mp3, count), damaged.with_vbri_count(mp3, count)):
        info = read(tmp_path / "song.mp3", data)
        assert info.duration_seconds == pytest.approx(damaged.ffmpeg_seconds(data), abs=0.001)
        # FFmpeg removes the encoder's padding at the place that a small count names.
        assert info.duration_seconds == pytest.approx(2.0, abs=0.1)
        assert notes(info) == expected


def test_an_mp3_that_announces_more_and_ends_inside_a_frame_is_cut_off(tmp_path: Path, tagged_mp3: bytes) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read(tmp_path / "song.mp3", tagged_mp3[: len(tagged_mp3) // 2 + 7])
    assert caught.value.reason == "TRUNCATED"


@pytest.mark.parametrize("name", ["song.wv", "song.tta", "song.flac", "song.wav", "song.aiff", "song.m4a"])
def test_tags_of_other_formats_around_a_file_are_ignored(tmp_path: Path, name: str) -> None:
    codec = {"wv": "wavpack", "tta": "tta", "flac": "flac", "wav": "pcm_s16le", "aiff": "pcm_s16be", "m4a": "aac"}
    path = with_ffmpeg(tmp_path / name, SONG, codec[name.partition(".")[2]])
    whole = read(path)
    data = path.read_bytes()
    before = damaged.id3v2({"TIT2": b"\x03Before"})
    for around in (
        before + data,
        data + damaged.id3v1(),
        before + before + data + damaged.id3v1(),
        data + b"TAG+" + bytes(223) + damaged.id3v1(),
        data + b"LYRICSBEGIN" + b"x" * 39 + b"000050LYRICS200" + damaged.id3v1(),
    ):
        info = read(tmp_path / f"around-{name}", around)
        assert (info.samples, notes(info)) == (whole.samples, [])


@pytest.mark.parametrize("bits", [15, 23, 31])
def test_floats_in_the_scale_of_integers_are_brought_to_full_scale(tmp_path: Path, bits: int) -> None:
    song = SONG.copy()
    path = with_soundfile(tmp_path / "song.wav", (song * 2.0**bits).astype(np.float32), subtype="FLOAT")
    assert np.allclose(decode(path, LIMITS), SONG, atol=1e-6)
    (note,) = read(path).notes
    assert note.reason == "SCALED"
    assert note.message.startswith(f"the floats were {2.0**bits:.6g} times too large")


def test_loud_floats_stay_as_they_are_and_very_loud_ones_are_divided_as_a_whole(tmp_path: Path) -> None:
    loud = with_soundfile(tmp_path / "loud.wav", SONG * 6, subtype="FLOAT")
    assert np.array_equal(decode(loud, LIMITS), SONG * 6)
    louder = decode(with_soundfile(tmp_path / "louder.wav", SONG * 100, subtype="DOUBLE"), LIMITS)
    assert np.allclose(louder, SONG / np.abs(SONG).max(), atol=1e-6)


def test_few_absurd_samples_do_not_change_the_scale(tmp_path: Path) -> None:
    song = SONG.copy()
    song[0, 1000], song[1, 2000], song[1, 3000] = np.nan, -np.inf, 1e30
    path = with_soundfile(tmp_path / "song.wav", song, subtype="FLOAT")
    song[0, 1000] = song[1, 2000] = song[1, 3000] = 0
    assert np.array_equal(decode(path, LIMITS), song)
    assert notes(read(path)) == ["ABSURD_SAMPLES"]


UNSUPPORTED = {
    "a DSF file": b"DSD \x1c\0\0\0\0\0\0\0" + bytes(100),
    "a DSDIFF file": b"FRM8\0\0\0\0\0\0\1\0DSD " + bytes(100),
    "a Shorten file": b"ajkg\x02" + bytes(100),
    "a MIDI file": b"MThd\0\0\0\6\0\1\0\1\1\xe0MTrk\0\0\0\4\0\xff\x2f\0",
    "a tracker module": b"Extended Module: song" + bytes(100),
    "a project of REAPER": b'<REAPER_PROJECT 0.1 "7.0"\n>\n',
    "a project of Audacity": b"SQLite format 3\0" + bytes(52) + b"AUDY" + bytes(100),
    "a project of FL Studio": b"FLhd\6\0\0\0" + bytes(100),
    "a Guitar Pro file": b"\x18FICHIER GUITAR PRO v5.00" + bytes(100),
    "a RealAudio file": b".RMF\0\0\0\x12" + bytes(100),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_a_known_format_that_is_not_decoded_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read(tmp_path / "song.mp3", UNSUPPORTED[name])
    assert caught.value.reason == "UNSUPPORTED_CODEC"
    assert caught.value.message.startswith(f"this is {name}")
    assert ", which cannot be decoded here: " in caught.value.message
