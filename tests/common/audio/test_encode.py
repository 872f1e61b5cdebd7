"""Stems are stored as FLAC without loss; WAV, MP3, M4A and Opus are made from them on request."""

import hashlib
import io
import tracemalloc
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from services.common.audio import (
    CONTENT_TYPES,
    EXTENSIONS,
    FORMATS,
    NO_LIMITS,
    Format,
    Samples,
    check,
    decode,
    encode,
    probe,
    transcode,
)
from services.common.errors import InvalidInputError, StoppedError
from songs.small_songs import music
from tests.common.audio_files import RATE, snr_db, with_ffmpeg

SONG = music()
AAC_FRAME = 1024


def on_grid(samples: Samples, bits: int) -> Samples:
    """Rounds samples to values that a file with this many bits can hold."""
    return np.asarray(np.rint(samples * 2 ** (bits - 1)) / 2 ** (bits - 1), np.float32)


@pytest.mark.parametrize("bits", [16, 24])
@pytest.mark.parametrize("kind", ["flac", "wav"])
def test_lossless_files_come_back_bit_by_bit(tmp_path: Path, kind: Format, bits: int) -> None:
    path = tmp_path / "stem"
    song = on_grid(SONG, bits)
    encode(song, RATE, path, kind, bits=bits)
    assert np.array_equal(decode(path, NO_LIMITS), song)
    # An independent decoder agrees on samples, length and depth.
    integers, rate = soundfile.read(path, dtype="int32", always_2d=True)
    assert rate == RATE
    assert np.array_equal(integers.T, (song.astype(np.float64) * 2**31).astype(np.int64))
    assert soundfile.info(path).subtype == f"PCM_{bits}"


def test_float_samples_lose_half_a_step_at_most(tmp_path: Path) -> None:
    encode(SONG, RATE, tmp_path / "stem.flac", "flac")
    assert np.abs(decode(tmp_path / "stem.flac", NO_LIMITS) - SONG).max() <= 2**-24


def test_flac_carries_its_length_and_checksum(tmp_path: Path) -> None:
    path = tmp_path / "stem.flac"
    encode(SONG, RATE, path, "flac")
    streaminfo = path.read_bytes()[8:42]
    assert int.from_bytes(streaminfo[13:18], "big") & (1 << 36) - 1 == SONG.shape[1]
    packed = (np.rint(SONG.T * 2**23).astype("<i4").reshape(-1, 1).view(np.uint8)[:, :3]).tobytes()
    assert streaminfo[18:34] == hashlib.md5(packed).digest()


def test_float_wav_keeps_samples_beyond_full_scale(tmp_path: Path) -> None:
    loud = SONG * 4
    encode(loud, RATE, tmp_path / "stem.wav", "wav", bits=32)
    assert np.array_equal(decode(tmp_path / "stem.wav", NO_LIMITS), loud)


def test_integer_files_clip_at_full_scale(tmp_path: Path) -> None:
    loud = np.array([[1.0, 1.5, -1.0, -1.5, 0.5] * 1000] * 2, np.float32)
    for kind in ("flac", "wav"):
        encode(loud, RATE, tmp_path / "stem", kind)
        highest = 1 - 2**-23
        expected = np.clip(loud, -1, highest)
        assert np.array_equal(decode(tmp_path / "stem", NO_LIMITS), expected)


@pytest.mark.parametrize("length", [1, 100, 4608, 65536, 65537, RATE + 1])
def test_the_length_is_exact(tmp_path: Path, length: int) -> None:
    for kind in ("flac", "wav"):
        encode(SONG[:, :length], RATE, tmp_path / "stem", kind)
        assert decode(tmp_path / "stem", NO_LIMITS).shape == (2, length)


@pytest.mark.parametrize("kind", ["mp3", "opus"])
@pytest.mark.parametrize("length", [2000, RATE + 1, 3 * RATE])
def test_lossy_files_play_at_the_same_time(tmp_path: Path, kind: Format, length: int) -> None:
    song = SONG[:, :length]
    encode(song, RATE, tmp_path / "stem", kind)
    decoded = decode(tmp_path / "stem", NO_LIMITS)
    assert decoded.shape[1] == pytest.approx(length, abs=2)
    common = min(decoded.shape[1], length)
    assert snr_db(song[:, :common], decoded[:, :common]) > 8


@pytest.mark.parametrize("length", [2000, RATE + 1, 3 * RATE])
def test_m4a_declares_its_delay_and_its_end(tmp_path: Path, length: int) -> None:
    """FFmpeg's decoder uses the delay, but plays the last frame completely although the file declares where it ends."""
    song = SONG[:, :length]
    encode(song, RATE, tmp_path / "stem", "m4a")
    decoded = decode(tmp_path / "stem", NO_LIMITS)
    assert length <= decoded.shape[1] < length + AAC_FRAME
    assert snr_db(song, decoded[:, :length]) > 8
    with av.open(tmp_path / "stem") as container:
        packets = [packet for packet in container.demux(audio=0) if packet.size]
    assert sum(packet.duration or 0 for packet in packets if packet.pts is not None and packet.pts >= 0) == length


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_what_it_says(tmp_path: Path, kind: Format) -> None:
    path = tmp_path / f"stem{EXTENSIONS[kind]}"
    encode(SONG, RATE, path, kind)
    info = check(path, NO_LIMITS)
    codec, container = {
        "flac": ("flac", "flac"),
        "wav": ("pcm_s24le", "wav"),
        "mp3": ("mp3", "mp3"),
        "m4a": ("aac", "mp4"),
        "opus": ("opus", "ogg"),
    }[kind]
    assert (info.codec, info.container, info.channels) == (codec, container, 2)
    assert info.duration_seconds == pytest.approx(3.0, abs=AAC_FRAME / RATE if kind == "m4a" else 1e-3)
    assert CONTENT_TYPES[kind].startswith("audio/")


@pytest.mark.parametrize("rate", [8000, 22050, 48000, 88200, 96000])
def test_rates_that_a_format_does_not_support_are_converted(tmp_path: Path, rate: int) -> None:
    song = music(rate=rate)
    formats: dict[Format, int] = {"flac": rate, "wav": rate, "mp3": min(rate, 48000), "m4a": rate, "opus": 48000}
    for kind, expected in formats.items():
        encode(song, rate, tmp_path / "stem", kind)
        info = check(tmp_path / "stem", NO_LIMITS)
        tolerance = AAC_FRAME / rate if kind == "m4a" else 0.01
        assert info.sample_rate_hz == expected
        assert info.duration_seconds == pytest.approx(3.0, abs=tolerance)


@pytest.mark.parametrize("kind", FORMATS)
def test_mono(tmp_path: Path, kind: Format) -> None:
    encode(SONG[:1], RATE, tmp_path / "stem", kind)
    assert probe(tmp_path / "stem", NO_LIMITS).channels == 1


def test_a_file_object_as_destination() -> None:
    memory = io.BytesIO()
    encode(SONG, RATE, memory, "flac")
    assert not memory.closed
    assert decode(memory, NO_LIMITS).shape == SONG.shape


@pytest.mark.parametrize(
    ("samples", "kind", "bits", "reason"),
    [
        (np.zeros((2, 0), np.float32), "flac", 24, "NO_SAMPLES"),
        (np.full((2, 9), np.nan, np.float32), "flac", 24, "NOT_FINITE"),
        (np.zeros((2, 9), np.float32), "flac", 12, "UNSUPPORTED_FORMAT"),
        (np.zeros((2, 9), np.float32), "aac", 24, "UNSUPPORTED_FORMAT"),
        (np.zeros((3, 9), np.float32), "flac", 24, "UNSUPPORTED_FORMAT"),
    ],
)
def test_samples_that_cannot_be_written_leave_no_file(
    tmp_path: Path, samples: Samples, kind: Format, bits: int, reason: str
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        encode(samples, RATE, tmp_path / "stem", kind, bits=bits)
    assert caught.value.reason == reason
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", FORMATS)
def test_transcode_equals_encode(tmp_path: Path, kind: Format) -> None:
    encode(SONG, RATE, tmp_path / "stem.flac", "flac")
    encode(decode(tmp_path / "stem.flac", NO_LIMITS), RATE, tmp_path / "encoded", kind)
    seen: list[float] = []
    transcode(tmp_path / "stem.flac", tmp_path / "transcoded", kind, on_progress=seen.append)
    encoded, transcoded = (decode(tmp_path / name, NO_LIMITS) for name in ("encoded", "transcoded"))
    assert np.array_equal(encoded, transcoded)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_transcode_keeps_memory_bounded(tmp_path: Path) -> None:
    song = music(60.0)
    encode(song, RATE, tmp_path / "stem.flac", "flac")
    tracemalloc.start()
    transcode(tmp_path / "stem.flac", tmp_path / "stem.wav", "wav")
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < song.nbytes / 3


def test_transcode_mixes_surround_to_stereo(tmp_path: Path) -> None:
    path = with_ffmpeg(tmp_path / "surround.flac", music(channels=6), "flac", layout="5.1")
    transcode(path, tmp_path / "song.mp3", "mp3")
    assert probe(tmp_path / "song.mp3", NO_LIMITS).channels == 2


def test_stopped_work_leaves_no_file(tmp_path: Path) -> None:
    song = music(20.0)
    encode(song, RATE, tmp_path / "stem.flac", "flac")

    def stop(fraction: float) -> None:
        if fraction > 0.3:
            raise StoppedError("cancelled")

    with pytest.raises(StoppedError):
        transcode(tmp_path / "stem.flac", tmp_path / "stem.wav", "wav", on_progress=stop)
    with pytest.raises(StoppedError):
        encode(song, RATE, tmp_path / "other.wav", "wav", on_progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["stem.flac"]


def test_a_full_disk_is_reported() -> None:
    class Full(io.BytesIO):
        def write(self, data: bytes, /) -> int:  # type: ignore[override]
            if self.tell() > 100_000:
                raise OSError("no space left on device")
            return super().write(data)

    with pytest.raises(OSError, match="no space left"):
        encode(SONG, RATE, Full(), "wav")
