"""Every file that is not a song gives one clear error, quickly and without reading other files."""

import io
import random
import socket
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from services.common.audio import Limits, check, decode, inspect, probe
from services.common.audio.reader import Reader
from services.common.errors import InvalidInputError, LimitExceededError, StemTubeError
from songs.small_songs import music
from tests.common.audio_files import RATE, aac_of_hours, flac_of_hours, opus_of_hours, png, with_ffmpeg, with_soundfile

LIMITS = Limits()
SONG = music()


def refusal(path: Path, limits: Limits = LIMITS) -> str:
    """The reason; checks that it is the same for all functions that decode, and that the message has no path."""
    reasons = set()
    for work in (check, decode, inspect):
        with pytest.raises(StemTubeError) as caught:
            work(path, limits)
        assert str(path.parent) not in caught.value.message
        assert caught.value.message[0].islower()
        reasons.add(caught.value.reason)
    (reason,) = reasons
    return reason


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    assert refusal(written(tmp_path / "song.mp3", b"")) == "EMPTY_FILE"


NOT_AUDIO: dict[str, bytes] = {
    "page.html": b"<!DOCTYPE html><html><body>" + b"Not found. " * 3000,
    "text.mp3": b"la la la " * 20_000,
    "zeros.wav": bytes(100_000),
    "ones.mp3": b"\xff" * 100_000,
    "short": b"R",
    "tag.mp3": b"ID3\x04\x00\x00\x00\x00\x00\x00" + random.Random(1).randbytes(50_000),
    "cover.webp": b"RIFF\x00\x10\x00\x00WEBPVP8 " + bytes(4096),
    "archive.zip": b"PK\x03\x04" + random.Random(2).randbytes(50_000),
}


@pytest.mark.parametrize("name", NOT_AUDIO)
def test_files_that_are_not_audio_are_refused(tmp_path: Path, name: str) -> None:
    assert refusal(written(tmp_path / name, NOT_AUDIO[name])) == "NOT_AUDIO"


def test_box_sizes_beyond_any_file_are_refused(tmp_path: Path) -> None:
    large = bytearray(with_ffmpeg(tmp_path / "song.w64", SONG, "pcm_s16le", muxer="w64").read_bytes())
    large[40:44], large[56:64] = b"none", struct.pack("<Q", 2**61)
    assert refusal(written(tmp_path / "far.w64", bytes(large))) == "TRUNCATED"
    header = b"\x1a\x45\xdf\xa3\x01" + struct.pack(">Q", 2**56 - 2)[1:]
    assert refusal(written(tmp_path / "far.mkv", header + bytes(1000))) in ("NOT_AUDIO", "CORRUPT", "TRUNCATED")


def test_a_picture_is_refused(tmp_path: Path) -> None:
    assert refusal(written(tmp_path / "cover.mp3", png())) == "NOT_AUDIO"


@pytest.mark.parametrize("seed", range(10))
def test_random_bytes_are_refused(tmp_path: Path, seed: int) -> None:
    generator = random.Random(seed)
    data = generator.randbytes(generator.choice([10, 1000, 100_000, 1_000_000]))
    assert refusal(written(tmp_path / "song.mp3", data)) == "NOT_AUDIO"


def test_random_bytes_with_mpeg_headers_are_refused(tmp_path: Path) -> None:
    generator = random.Random(3)
    # Their headers are those of Layer I frames, so a decoder finds one damaged frame after another.
    frames = b"".join(b"\xff\xff\x28\x00" + generator.randbytes(generator.randrange(90, 1000)) for _ in range(300))
    assert refusal(written(tmp_path / "song.mp3", frames)) in ("NOT_AUDIO", "CORRUPT")


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm", "clip.mkv"])
def test_a_video_without_sound_is_refused(tmp_path: Path, name: str) -> None:
    path = with_ffmpeg(tmp_path / name, None, video=True)
    assert refusal(path) == "NO_AUDIO_STREAM"


@pytest.mark.parametrize(("name", "subtype"), [("song.wav", "PCM_16"), ("song.aiff", "PCM_16"), ("song.ogg", None)])
def test_a_file_without_samples_is_refused(tmp_path: Path, name: str, subtype: str | None) -> None:
    empty = np.zeros((2, 0), np.float32)
    assert refusal(with_soundfile(tmp_path / name, empty, subtype=subtype)) == "NO_SAMPLES"


WHOLE_FILES: dict[str, Callable[[Path], Path]] = {
    "8bit.wav": lambda path: with_soundfile(path, SONG, subtype="PCM_U8"),
    "16bit.wav": lambda path: with_soundfile(path, SONG, subtype="PCM_16"),
    "float.wav": lambda path: with_soundfile(path, SONG, subtype="FLOAT"),
    "song.aiff": lambda path: with_soundfile(path, SONG),
    "song.flac": lambda path: with_soundfile(path, SONG),
    "vorbis.ogg": lambda path: with_soundfile(path, SONG),
    "opus.ogg": lambda path: with_ffmpeg(path, music(rate=48000), "libopus", rate=48000),
    "song.mp3": lambda path: with_ffmpeg(path, SONG, "libmp3lame"),
    "untagged.mp3": lambda path: with_ffmpeg(path, SONG, "libmp3lame", options={"write_xing": "0"}),
    "song.aac": lambda path: with_ffmpeg(path, SONG, "aac", muxer="adts"),
    "song.m4a": lambda path: with_ffmpeg(path, SONG, "aac"),
    "faststart.m4a": lambda path: with_ffmpeg(path, SONG, "aac", options={"movflags": "+faststart"}),
    "fragments.mp4": lambda path: with_ffmpeg(
        path, SONG, "aac", options={"movflags": "+frag_keyframe+empty_moov", "frag_duration": "500000"}
    ),
    "song.webm": lambda path: with_ffmpeg(path, music(rate=48000), "libopus", rate=48000),
    "clip.mkv": lambda path: with_ffmpeg(path, SONG, "aac", video=True),
    "clip.mp4": lambda path: with_ffmpeg(path, SONG, "aac", video=True),
    "song.wv": lambda path: with_ffmpeg(path, SONG, "wavpack"),
    "song.tta": lambda path: with_ffmpeg(path, SONG, "tta"),
    "song.wma": lambda path: with_ffmpeg(path, SONG, "wmav2", muxer="asf"),
}


WITHOUT_LENGTH = ("vorbis.ogg", "opus.ogg", "untagged.mp3", "song.aac", "fragments.mp4")
"""Nothing in them states how long they are."""


@pytest.mark.parametrize("name", [name for name in WHOLE_FILES if name not in WITHOUT_LENGTH])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, name: str) -> None:
    whole = WHOLE_FILES[name](tmp_path / name)
    info = check(whole, LIMITS)
    assert info.duration_seconds == pytest.approx(3.0, abs=0.06)
    assert info.notes == ()
    data = whole.read_bytes()
    for share in (0.3, 0.503, 0.93):
        assert refusal(written(tmp_path / f"cut-{name}", data[: int(len(data) * share)])) == "TRUNCATED", share


@pytest.mark.parametrize("name", WITHOUT_LENGTH)
def test_a_stream_without_a_length_may_end_anywhere(tmp_path: Path, name: str) -> None:
    whole = WHOLE_FILES[name](tmp_path / name)
    assert check(whole, LIMITS).notes == ()
    data = whole.read_bytes()
    for share in (0.503, 0.93):
        info = check(written(tmp_path / f"cut-{name}", data[: int(len(data) * share)]), LIMITS)
        # An Ogg page is lost as a whole; FFmpeg's muxer makes one a second.
        assert 3 * share - 1.02 < info.duration_seconds < 3 * share + 0.1
        assert [note.reason for note in info.notes] == ["MAY_BE_CUT_OFF"]


@pytest.mark.parametrize("name", ["16bit.wav", "song.flac", "song.m4a", "song.webm", "vorbis.ogg"])
def test_a_file_with_only_its_header_is_refused(tmp_path: Path, name: str) -> None:
    data = WHOLE_FILES[name](tmp_path / name).read_bytes()
    assert refusal(written(tmp_path / f"cut-{name}", data[:40])) == "TRUNCATED"


@pytest.mark.parametrize("name", ["song.mp3", "untagged.mp3", "song.flac", "vorbis.ogg", "song.m4a"])
def test_a_file_with_holes_is_refused(tmp_path: Path, name: str) -> None:
    data = bytearray(WHOLE_FILES[name](tmp_path / name).read_bytes())
    generator = random.Random(4)
    for start in range(len(data) // 5, len(data) * 4 // 5, len(data) // 20):
        data[start : start + 700] = generator.randbytes(700)
    assert refusal(written(tmp_path / f"holes-{name}", bytes(data))) == "CORRUPT"


def test_small_damage_is_accepted_and_later_sound_keeps_its_time(tmp_path: Path) -> None:
    song = music(20.0)
    data = bytearray(with_ffmpeg(tmp_path / "song.m4a", song, "aac").read_bytes())
    data[100_000:100_400] = random.Random(5).randbytes(400)
    decoded = decode(written(tmp_path / "scratched.m4a", bytes(data)), LIMITS)
    assert decoded.shape[1] == pytest.approx(song.shape[1], abs=1024)
    late = slice(15 * RATE, 19 * RATE)
    assert np.corrcoef(song[0, late], decoded[0, late])[0, 1] > 0.9


@pytest.mark.parametrize("junk", [b"TAG" + b"x" * 125, bytes(5000), b"lyrics " * 500])
@pytest.mark.parametrize("name", ["song.mp3", "untagged.mp3"])
def test_junk_after_an_mp3_is_accepted(tmp_path: Path, name: str, junk: bytes) -> None:
    whole = WHOLE_FILES[name](tmp_path / name)
    more = written(tmp_path / f"more-{name}", whole.read_bytes() + junk)
    # FFmpeg uses the encoder's count of padding samples only if the file has the size in its tag.
    assert check(more, LIMITS).samples == pytest.approx(check(whole, LIMITS).samples, abs=1152)


@pytest.mark.parametrize("unknown", [0, 0xFFFFFFFF])
def test_a_streamed_wav_without_a_size_is_accepted(tmp_path: Path, unknown: int) -> None:
    data = bytearray(with_soundfile(tmp_path / "song.wav", SONG, subtype="PCM_16").read_bytes())
    data[4:8] = data[40:44] = struct.pack("<I", unknown)
    assert check(written(tmp_path / "streamed.wav", bytes(data)), LIMITS).samples == SONG.shape[1]


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    path = with_soundfile(tmp_path / "song.wav", SONG)
    with pytest.raises(LimitExceededError) as caught:
        probe(path, Limits(max_bytes=path.stat().st_size - 1))
    assert (caught.value.reason, caught.value.metadata["max_bytes"]) == ("TOO_LARGE", str(path.stat().st_size - 1))
    assert probe(path, Limits(max_bytes=path.stat().st_size)).channels == 2


def test_too_many_channels_are_refused(tmp_path: Path) -> None:
    path = with_soundfile(tmp_path / "song.wav", music(0.1, channels=40))
    assert refusal(path) == "TOO_MANY_CHANNELS"


def test_a_song_whose_header_and_bytes_tell_that_it_is_too_long_is_not_decoded_to_the_limit(tmp_path: Path) -> None:
    path = with_soundfile(tmp_path / "song.flac", music(30.0))
    with Reader(path, Limits(max_seconds=20.0)) as reader:
        with pytest.raises(LimitExceededError) as caught:
            list(reader.blocks())
        assert (caught.value.reason, caught.value.metadata["max_seconds"]) == ("TOO_LONG", "20")
        assert reader.decoded_seconds < 10


BOMBS: dict[str, Callable[[Path], Path]] = {
    "silent.flac": lambda path: flac_of_hours(path, 2.0, declared=False),
    "silent.aac": lambda path: aac_of_hours(path, 2.0),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_decompression_bomb_is_decoded_up_to_the_limit_only(tmp_path: Path, name: str) -> None:
    bomb = BOMBS[name](tmp_path / name)
    assert bomb.stat().st_size < 5_000_000
    limits = Limits(max_seconds=60.0)
    with Reader(bomb, limits) as reader:
        with pytest.raises(LimitExceededError) as caught:
            max(block.shape[1] for block in reader.blocks(RATE, 2))
        assert caught.value.reason == "TOO_LONG"
        assert 60 < reader.decoded_seconds < 61
    tracemalloc.start()
    with pytest.raises(LimitExceededError):
        decode(bomb, limits)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 2 * 60 * RATE * 2 * 4


def test_a_bomb_with_a_declared_duration_is_refused(tmp_path: Path) -> None:
    bomb = opus_of_hours(tmp_path / "silent.opus", 2.0)
    assert bomb.stat().st_size < 2_000_000
    assert refusal(bomb) == "TOO_LONG"


def test_a_header_cannot_make_the_decoder_reserve_memory(tmp_path: Path) -> None:
    data = bytearray(with_soundfile(tmp_path / "song.flac", SONG).read_bytes())
    data[21:26] = bytes([data[21] | 0x0F]) + b"\xff" * 4
    boast = written(tmp_path / "boast.flac", bytes(data))
    tracemalloc.start()
    assert decode(boast, LIMITS).shape == SONG.shape
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # numpy reserves the longest song; the system provides only the parts that are written.
    assert peak_bytes < 2 * LIMITS.max_seconds * RATE * 2 * 4


class Counted(io.BytesIO):
    """A file that counts the bytes read from it."""

    count = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


@pytest.mark.parametrize(
    "head",
    [
        b"RIFF\xff\xff\xff\x7fWAVE",
        b"RIFF\xff\xff\xff\x7fWAVEfmt \x10\0\0\0\x01\0\x02\0\x44\xac\0\0\x10\xb1\x02\0\x04\0\x10\0",
        b"\0\0\0\x10ftypisomisom" + b"\0\0\0\x08free" * 500_000,
    ],
)
def test_endless_boxes_are_not_all_read(head: bytes) -> None:
    """FFmpeg would read all of them, and take a third of a second for each megabyte."""
    file = Counted(head + bytes(4_000_000))
    with pytest.raises(InvalidInputError) as caught:
        probe(file, LIMITS)
    assert caught.value.reason == "TRUNCATED"
    assert file.count < 10_000


def playlists(target: Path, port: int) -> dict[str, str]:
    """Files that make FFmpeg open other files, if it is allowed to."""
    url = f"http://127.0.0.1:{port}/song.ts"
    hls = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:3.0,\n{}\n#EXT-X-ENDLIST\n"
    dash = (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT3S"><Period><AdaptationSet mimeType="audio/mp4"><Representation id="1" '
        f'bandwidth="1"><BaseURL>{url}</BaseURL></Representation></AdaptationSet></Period></MPD>'
    )
    return {
        "local.m3u8": hls.format(target.as_uri()),
        "relative.m3u8": hls.format(target.name),
        "remote.m3u8": hls.format(url),
        "list.ffconcat": f"ffconcat version 1.0\nfile '{target.name}'\n",
        "list.mp3": f"ffconcat version 1.0\nfile '{target}'\n",
        "remote.ffconcat": f"ffconcat version 1.0\nfile '{url}'\n",
        "movie.mpd": dash,
        "session.sdp": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio {port} RTP/AVP 0\n",
        "plain.m3u": f"{target}\n",
    }


@pytest.mark.parametrize("name", playlists(Path("/song.ts"), 1))
def test_a_playlist_reads_no_other_file_and_no_network(tmp_path: Path, name: str) -> None:
    target = with_ffmpeg(tmp_path / "song.ts", SONG, "aac", muxer="mpegts")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        playlist = tmp_path / name
        playlist.write_text(playlists(target, server.getsockname()[1])[name])
        assert refusal(playlist) == "NOT_AUDIO"
        with pytest.raises(BlockingIOError):
            server.accept()


def test_ffmpeg_alone_follows_such_a_playlist(tmp_path: Path) -> None:
    target = with_ffmpeg(tmp_path / "song.ts", SONG, "aac", muxer="mpegts")
    for name in ("local.m3u8", "list.ffconcat"):
        playlist = tmp_path / name
        playlist.write_text(playlists(target, 1)[name])
        with av.open(str(playlist)) as container:
            assert container.streams.audio


def test_an_unsupported_codec_is_refused(tmp_path: Path) -> None:
    path = with_ffmpeg(tmp_path / "song.wav", SONG, "adpcm_yamaha")
    with pytest.raises(InvalidInputError) as caught:
        probe(path, LIMITS)
    assert caught.value.reason == "UNSUPPORTED_CODEC"
