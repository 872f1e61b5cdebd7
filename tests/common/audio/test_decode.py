"""Decoding of every container, codec, rate, depth and number of channels to float32 at one rate."""

import io
from pathlib import Path

import numpy as np
import pytest

from services.common.audio import AudioInfo, Limits, check, decode, inspect, probe, resample
from services.common.audio.reader import Reader
from services.common.errors import LimitExceededError, StoppedError
from songs.small_songs import music
from tests.common.audio_files import RATE, snr_db, with_ffmpeg, with_soundfile

LIMITS = Limits()
SONG = music()


@pytest.mark.parametrize(
    ("subtype", "min_snr_db"),
    [("PCM_U8", 30), ("PCM_16", 75), ("PCM_24", 120), ("PCM_32", 140), ("FLOAT", 250), ("DOUBLE", 250)],
)
def test_wav_of_every_depth_is_decoded(tmp_path: Path, subtype: str, min_snr_db: float) -> None:
    path = with_soundfile(tmp_path / "song.wav", SONG, subtype=subtype)
    decoded = decode(path, LIMITS)
    assert decoded.dtype == np.float32
    assert decoded.flags.c_contiguous
    assert decoded.shape == SONG.shape
    assert snr_db(SONG, decoded) > min_snr_db


@pytest.mark.parametrize(
    ("name", "codec", "options", "min_snr_db"),
    [
        ("song.flac", "flac", {}, 75),
        ("song.mp3", "libmp3lame", {}, 8),
        ("song.ogg", "libopus", {}, 8),
        ("song.webm", "libopus", {}, 8),
        ("song.m4a", "aac", {}, 8),
        ("faststart.m4a", "aac", {"movflags": "+faststart"}, 8),
        ("lossless.m4a", "alac", {}, 75),
        ("song.mka", "flac", {}, 75),
        ("song.wv", "wavpack", {}, 30),
        ("song.aiff", "pcm_s16be", {}, 75),
        ("song.w64", "pcm_s16le", {}, 75),
    ],
)
def test_every_container_and_codec_is_decoded(
    tmp_path: Path, name: str, codec: str, options: dict[str, str], min_snr_db: float
) -> None:
    rate = 48000 if codec == "libopus" else RATE
    song = music(rate=rate)
    path = with_ffmpeg(tmp_path / name, song, codec, rate=rate, options=options)
    decoded = decode(path, LIMITS, sample_rate_hz=rate)
    length = song.shape[1]
    # AAC in MP4 declares only its delay; the padding of the last frame remains.
    assert length <= decoded.shape[1] <= length + (1024 if codec == "aac" else 1)
    assert snr_db(song, decoded[:, :length]) > min_snr_db


def test_files_of_another_encoder_are_decoded(tmp_path: Path) -> None:
    for name in ("song.ogg", "song.mp3"):
        decoded = decode(with_soundfile(tmp_path / name, SONG), LIMITS)
        assert decoded.shape == SONG.shape
        assert snr_db(SONG, decoded) > 8


@pytest.mark.parametrize(("name", "codec"), [("clip.mp4", "aac"), ("clip.mkv", "aac"), ("clip.webm", "libopus")])
def test_the_sound_of_a_video_is_decoded(tmp_path: Path, name: str, codec: str) -> None:
    path = with_ffmpeg(tmp_path / name, music(rate=48000), codec, rate=48000, video=True)
    info = check(path, LIMITS)
    assert info.duration_seconds == pytest.approx(3.0, abs=0.03)
    assert (info.codec, info.channels) == (codec.removeprefix("lib"), 2)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 32000, 48000, 96000, 192000])
def test_any_sample_rate_is_converted_without_a_shift(tmp_path: Path, rate: int) -> None:
    time = np.arange(2 * rate) / rate
    tone = np.sin(2 * np.pi * 1000 * time).astype(np.float32)[None, :] * np.float32(0.5)
    decoded = decode(with_soundfile(tmp_path / "tone.wav", tone, rate, "FLOAT"), LIMITS)
    assert decoded.shape == (2, 2 * RATE)
    expected = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(2 * RATE) / RATE)
    middle = slice(RATE // 2, -RATE // 2)
    assert np.abs(decoded[0, middle] - expected[middle]).max() < 1e-4


def test_mono_becomes_two_equal_channels_at_the_same_level(tmp_path: Path) -> None:
    mono = music(channels=1)
    decoded = decode(with_soundfile(tmp_path / "mono.wav", mono, subtype="FLOAT"), LIMITS)
    assert np.array_equal(decoded, np.concatenate([mono, mono]))


def test_stereo_becomes_mono_as_the_mean(tmp_path: Path) -> None:
    decoded = decode(with_soundfile(tmp_path / "song.wav", SONG, subtype="FLOAT"), LIMITS, channels=1)
    assert np.allclose(decoded, SONG.mean(axis=0, keepdims=True), atol=1e-6)


def test_surround_is_mixed_without_clipping(tmp_path: Path) -> None:
    loud = np.full((6, RATE), 0.99, np.float32)
    decoded = decode(with_ffmpeg(tmp_path / "loud.flac", loud, "flac", layout="5.1"), LIMITS)
    assert decoded.shape == (2, RATE)
    assert 0.9 < np.abs(decoded).max() <= 1.0


def test_surround_goes_to_the_right_sides(tmp_path: Path) -> None:
    front_left, front_right, centre, lfe, left, right = range(6)
    for channel, expected in (
        (front_left, (0.414, 0)),
        (front_right, (0, 0.414)),
        (centre, (0.293, 0.293)),
        (lfe, (0, 0)),
        (left, (0.293, 0)),
        (right, (0, 0.293)),
    ):
        samples = np.zeros((6, 4096), np.float32)
        samples[channel] = 0.5
        path = with_ffmpeg(tmp_path / "surround.flac", samples, "flac", layout="5.1")
        mixed = decode(path, LIMITS)[:, 2000] / 0.5
        assert mixed == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("channels", [3, 4, 6, 8, 12])
def test_channels_without_names_are_mixed_too(tmp_path: Path, channels: int) -> None:
    song = music(1.0, channels=channels)
    decoded = decode(with_soundfile(tmp_path / "song.wav", song, subtype="FLOAT"), LIMITS)
    assert decoded.shape == (2, RATE)
    assert 0.05 < np.abs(decoded).max() <= 1.0


@pytest.mark.parametrize("layout", ["7.1", "5.1", "quad"])
def test_planar_frames_of_many_channels_are_decoded(tmp_path: Path, layout: str) -> None:
    channels = {"7.1": 8, "5.1": 6, "quad": 4}[layout]
    song = music(1.0, channels=channels)
    path = with_ffmpeg(tmp_path / "song.wv", song, "wavpack", layout=layout)
    with Reader(path, LIMITS) as reader:
        decoded = np.concatenate([block.copy() for block in reader.blocks()], axis=1)
    assert snr_db(song, decoded) > 30


def joined(path: Path, *parts: Path) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def test_a_stream_may_change_rate_and_channels(tmp_path: Path) -> None:
    first = with_ffmpeg(tmp_path / "first.mp3", music(2.0), "libmp3lame")
    second = with_ffmpeg(
        tmp_path / "second.mp3", music(1.0, 22050, channels=1), "libmp3lame", rate=22050, layout="mono"
    )
    both = joined(tmp_path / "both.mp3", first, second)
    info = check(both, LIMITS)
    assert info.duration_seconds == pytest.approx(3.0, abs=0.1)
    assert (info.sample_rate_hz, info.channels) == (RATE, 2)
    assert decode(both, LIMITS).shape[1] == pytest.approx(3 * RATE, abs=0.1 * RATE)


def test_ogg_files_in_a_row_are_one_song(tmp_path: Path) -> None:
    first, second = (with_soundfile(tmp_path / f"{seed}.ogg", music(2.0, seed=seed)) for seed in (1, 2))
    decoded = decode(joined(tmp_path / "both.ogg", first, second), LIMITS)
    assert decoded.shape[1] == pytest.approx(4 * RATE, abs=0.05 * RATE)


def test_a_stream_that_appears_late_is_ignored(tmp_path: Path) -> None:
    sound = with_ffmpeg(tmp_path / "sound.ts", music(20.0), "aac", muxer="mpegts")
    clip = with_ffmpeg(tmp_path / "clip.ts", music(2.0), "aac", muxer="mpegts", video=True)
    # FFmpeg looks for streams in the first 5 MB and at the very end.
    both = joined(tmp_path / "both.ts", *[sound] * 10, clip, sound)
    assert check(both, LIMITS).duration_seconds == pytest.approx(222, abs=1.5)


def test_values_that_no_speaker_could_play_become_silence(tmp_path: Path) -> None:
    song = SONG.copy()
    song[0, 1000], song[1, 2000], song[1, 3000] = np.nan, -np.inf, 1e30
    decoded = decode(with_soundfile(tmp_path / "song.wav", song, subtype="FLOAT"), LIMITS)
    assert np.isfinite(decoded).all()
    assert (decoded[0, 1000], decoded[1, 2000], decoded[1, 3000]) == (0, 0, 0)
    assert np.array_equal(decoded[:, 4000:], SONG[:, 4000:])


def test_probe_reads_only_the_header(tmp_path: Path) -> None:
    tags = {"title": "Song\n Title", "artist": "Ä Band", "album": "LP", "encoder_secret": "x"}
    path = with_ffmpeg(tmp_path / "song.mp3", SONG, "libmp3lame", tags=tags)
    info = probe(path, LIMITS)
    assert info == AudioInfo(
        duration_seconds=pytest.approx(3.0, abs=1e-4),  # type: ignore[arg-type]
        samples=0,
        sample_rate_hz=RATE,
        channels=2,
        codec="mp3",
        container="mp3",
        bit_rate=pytest.approx(128_000, rel=0.05),  # type: ignore[arg-type]
        tags={"title": "Song Title", "artist": "Ä Band", "album": "LP"},
    )


def test_tags_of_ogg_are_found_in_the_stream(tmp_path: Path) -> None:
    path = with_ffmpeg(tmp_path / "song.flac", SONG, "flac", tags={"TITLE": "One", "genre": "Folk"})
    assert probe(path, LIMITS).tags == {"title": "One", "genre": "Folk"}


def test_check_counts_every_sample(tmp_path: Path) -> None:
    for name, codec in (("song.flac", "flac"), ("song.mp3", "libmp3lame")):
        info = check(with_ffmpeg(tmp_path / name, SONG, codec), LIMITS)
        assert info.samples == SONG.shape[1]
        assert info.duration_seconds == SONG.shape[1] / RATE


def test_a_file_object_works_like_a_path_and_stays_open(tmp_path: Path) -> None:
    path = with_soundfile(tmp_path / "song.flac", SONG)
    memory = io.BytesIO(path.read_bytes())
    memory.seek(1000)
    assert np.array_equal(decode(memory, LIMITS), decode(path, LIMITS))
    assert not memory.closed


def test_a_read_error_is_not_reported_as_a_bad_file(tmp_path: Path) -> None:
    class Flaky(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 60_000:
                raise ConnectionError("the storage went away")
            return super().read(size)

    data = with_soundfile(tmp_path / "song.wav", SONG).read_bytes()
    with pytest.raises(ConnectionError, match="went away"):
        decode(Flaky(data), LIMITS)


def test_progress_rises_to_one_and_can_stop_the_work(tmp_path: Path) -> None:
    path = with_soundfile(tmp_path / "song.wav", music(20.0))
    seen: list[float] = []
    decode(path, LIMITS, on_progress=seen.append)
    assert len(seen) > 5
    assert seen == sorted(seen)
    assert seen[-1] == 1.0

    def stop(fraction: float) -> None:
        if fraction > 0.3:
            raise StoppedError("cancelled")

    for work in (decode, inspect, check):
        with pytest.raises(StoppedError):
            work(path, LIMITS, on_progress=stop)


def test_the_content_hash_depends_only_on_the_sound(tmp_path: Path) -> None:
    def content_hash(path: Path) -> str:
        return inspect(path, LIMITS).content_hash

    plain = with_ffmpeg(tmp_path / "plain.mp3", SONG, "libmp3lame")
    tagged = with_ffmpeg(tmp_path / "tagged.mp3", SONG, "libmp3lame", tags={"title": "A title", "artist": "B"})
    assert plain.read_bytes() != tagged.read_bytes()
    assert content_hash(plain) == content_hash(tagged)
    assert len(content_hash(plain)) == 64
    other = with_ffmpeg(tmp_path / "other.mp3", music(seed=2), "libmp3lame")
    shorter = with_ffmpeg(tmp_path / "shorter.mp3", SONG[:, :-2000], "libmp3lame")
    assert len({content_hash(path) for path in (plain, other, shorter)}) == 3


def test_a_song_of_exactly_the_limit_passes(tmp_path: Path) -> None:
    path = with_soundfile(tmp_path / "song.flac", music(3.0))
    assert check(path, Limits(max_seconds=3.0)).duration_seconds == 3.0
    with pytest.raises(LimitExceededError):
        check(path, Limits(max_seconds=2.999))


def test_resample_keeps_tone_and_duration() -> None:
    tone = np.sin(2 * np.pi * 997 * np.arange(48000) / 48000).astype(np.float32)[None, :]
    resampled = resample(tone, 48000, 22050)
    assert resampled.shape == (1, 22050)
    assert resampled.dtype == np.float32
    assert resampled.flags.c_contiguous
    expected = np.sin(2 * np.pi * 997 * np.arange(22050) / 22050)
    assert np.abs(resampled[0, 1000:-1000] - expected[1000:-1000]).max() < 1e-4
    assert resample(tone, 48000, 48000) is tone
