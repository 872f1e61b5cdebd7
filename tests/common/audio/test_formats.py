"""Formats that docs/formats.md lists as read, in their full length."""

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from services.common.audio import Limits, check, decode
from songs.small_songs import music
from tests.common.audio_files import RATE, with_ffmpeg, with_soundfile
from tests.common.damaged_files import ffmpeg_seconds

LIMITS = Limits()

READ: dict[str, tuple[str, int, str, dict[str, Any]]] = {
    "alac.caf": ("alac", RATE, "stereo", {}),
    "song.wma": ("wmav2", RATE, "stereo", {"muxer": "asf"}),
    "old.wma": ("wmav1", RATE, "stereo", {"muxer": "asf"}),
    "film.mkv": ("ac3", 48000, "5.1", {"video": True}),
    "film.mp4": ("eac3", 48000, "stereo", {"video": True}),
    "film.ts": ("ac3", 48000, "stereo", {"muxer": "mpegts", "video": True}),
    "surround.opus": ("libopus", 48000, "5.1", {"muxer": "ogg"}),
    "radio.mp2": ("mp2", 48000, "stereo", {}),
    "dab.mp2": ("mp2", 24000, "stereo", {}),
    "big.aiff": ("pcm_s24be", RATE, "stereo", {}),
    "large.wav": ("pcm_s24le", RATE, "stereo", {"options": {"rf64": "always"}}),
    "large.w64": ("pcm_s24le", RATE, "stereo", {"muxer": "w64"}),
    "song.mka": ("flac", RATE, "stereo", {"muxer": "matroska"}),
    "phone.3gp": ("aac", 16000, "stereo", {"muxer": "3gp"}),
    "clip.avi": ("libmp3lame", RATE, "stereo", {"muxer": "avi"}),
    "alaw.wav": ("pcm_alaw", 8000, "stereo", {}),
}


@pytest.mark.parametrize("name", READ)
def test_a_format_is_read_in_its_full_length(tmp_path: Path, name: str) -> None:
    codec, rate, layout, more = READ[name]
    song = music(2.0, rate=rate, channels=6 if layout == "5.1" else 2)
    path = with_ffmpeg(tmp_path / name, song, codec, rate=rate, layout=layout, **more)
    info = check(path, LIMITS)
    assert info.duration_seconds == pytest.approx(ffmpeg_seconds(path.read_bytes()), abs=0.001)
    assert info.duration_seconds == pytest.approx(2.0, abs=0.12)
    assert info.channels == (6 if layout == "5.1" else 2)
    assert info.notes == ()


def test_24_bits_in_32_are_read_at_their_level(tmp_path: Path) -> None:
    song = music(1.0)
    data = bytearray(with_ffmpeg(tmp_path / "song.wav", song, "pcm_s32le").read_bytes())
    extensible = struct.pack(
        "<HHIIHHHHI16s", 0xFFFE, 2, RATE, RATE * 8, 8, 32, 22, 24, 3, bytes.fromhex("0100000000001000800000aa00389b71")
    )
    at = data.index(b"fmt ")
    size = struct.unpack("<I", data[at + 4 : at + 8])[0]
    data[at + 4 : at + 8 + size] = struct.pack("<I", len(extensible)) + extensible
    data[4:8] = struct.pack("<I", len(data) - 8)
    (tmp_path / "song.wav").write_bytes(data)
    assert np.allclose(decode(tmp_path / "song.wav", LIMITS), song, atol=1e-6)


def test_big_endian_floats_are_read(tmp_path: Path) -> None:
    song = music(1.0)
    path = with_soundfile(tmp_path / "song.aiff", song, subtype="FLOAT")
    assert np.array_equal(decode(path, LIMITS), song)


def test_chapters_change_nothing(tmp_path: Path) -> None:
    path = with_ffmpeg(tmp_path / "song.mka", music(2.0), "flac", muxer="matroska")
    with av.open(str(path)) as source, av.open(str(tmp_path / "chapters.mka"), "w", format="matroska") as copy:
        stream = copy.add_stream_from_template(source.streams.audio[0])
        copy.set_chapters(
            [
                {"id": 1, "start": 0, "end": 1000, "time_base": Fraction(1, 1000), "metadata": {"title": "One"}},
            ]
        )
        for packet in source.demux(source.streams.audio[0]):
            if packet.size:
                packet.stream = stream
                copy.mux(packet)
    assert check(tmp_path / "chapters.mka", LIMITS).samples == check(path, LIMITS).samples
