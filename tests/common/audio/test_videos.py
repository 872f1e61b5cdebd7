"""The sound of a video stays in time with its picture, and the default of several sound tracks is read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.common.audio import Limits, check, decode
from songs.small_songs import music
from tests.common.audio_files import RATE, with_ffmpeg
from tests.common.damaged_files import video, with_sounds

LIMITS = Limits()

CONTAINERS: dict[str, tuple[str, dict[str, Any]]] = {
    "clip.mp4": ("aac", {}),
    "fragments.mp4": ("aac", {"options": {"movflags": "+frag_keyframe+delay_moov"}}),
    "clip.mkv": ("aac", {}),
    "clip.ts": ("aac", {"muxer": "mpegts"}),
    "clip.mpg": ("mp2", {}),
}


def onset(path: Path) -> float:
    """The time in seconds at which the sound of a burst begins."""
    loud = np.abs(decode(path, LIMITS)).max(axis=0) > 0.1
    return float(np.argmax(loud)) / RATE


def burst(silent_seconds: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Two seconds of music after silence."""
    return np.concatenate([np.zeros((2, round(silent_seconds * RATE)), np.float32), music(2.0)], axis=1)


@pytest.mark.parametrize("name", CONTAINERS)
def test_silence_comes_before_sound_that_begins_after_the_picture(tmp_path: Path, name: str) -> None:
    codec, more = CONTAINERS[name]
    at_once = onset(video(tmp_path / f"at-once-{name}", burst(0.5), codec, **more))
    path = video(tmp_path / name, burst(0.5), codec, late_seconds=1.5, **more)
    assert onset(path) - at_once == pytest.approx(1.5, abs=0.04)
    info = check(path, LIMITS)
    assert info.duration_seconds == pytest.approx(4.0, abs=0.08)
    assert [note.reason for note in info.notes] == ["STARTS_LATE"]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts"])
def test_a_pause_of_the_sound_is_silent(tmp_path: Path, name: str) -> None:
    codec, more = CONTAINERS[name]
    path = video(tmp_path / name, burst(2.0), codec, pause_seconds=1.0, **more)
    info = check(path, LIMITS)
    assert info.duration_seconds == pytest.approx(5.0, abs=0.1)
    assert [note.reason for note in info.notes] == ["GAPS"]


def test_a_file_without_pictures_begins_with_its_sound(tmp_path: Path) -> None:
    path = with_ffmpeg(tmp_path / "song.ts", music(2.0), "aac", muxer="mpegts", options={"output_ts_offset": "100"})
    info = check(path, LIMITS)
    assert info.duration_seconds == pytest.approx(2.0, abs=0.05)
    assert info.notes == ()


@pytest.mark.parametrize("name", ["clip.mkv", "clip.mp4"])
@pytest.mark.parametrize("default", [0, 1])
def test_the_default_sound_track_is_read(tmp_path: Path, name: str, default: int) -> None:
    sounds = [music(1.0, seed=1), np.zeros((2, RATE), np.float32)]
    path = with_sounds(tmp_path / name, sounds, default)
    assert (np.abs(decode(path, LIMITS)).max() > 0.1) == (default == 0)
    (note,) = check(path, LIMITS).notes
    assert note.reason == "OTHER_SOUND"
    assert f"the default one, number {default + 1}" in note.message
