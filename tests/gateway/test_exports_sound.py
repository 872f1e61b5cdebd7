"""Sound exports, read by other programs: libsndfile, FFmpeg, and a reader of MP4 boxes written for the test."""

import io
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import av
import numpy as np
import pytest
import soundfile

from gateway.exports import click, mixdown, stem_mp4
from gateway.exports.export import Rendering, Track
from gateway.exports.mp4 import add_user_data
from gateway.exports.registry import EXPORTS
from services.common import audio
from services.common.audio import Samples
from services.common.errors import InvalidInputError, NotFoundError, StoppedError
from services.common.storage.marked_store import MARKER
from services.common.storage.objects import open_store
from stemtube.analysis.v1 import music_pb2
from stemtube.download.v1 import media_pb2, track_pb2
from tests.common.audio_files import snr_db
from tests.gateway.conftest import Client

RATE = 44_100
SECONDS = 4.0
LENGTH = int(RATE * SECONDS)
GAIN = 0.5
AUDIO = media_pb2.MEDIA_KIND_AUDIO
PATH = "/api/v1/tracks/t/exports"
HZ = {"drums": 3000.0, "bass": 80.0, "other": 700.0, "vocals": 330.0, "guitar": 1000.0, "piano": 1500.0}


def tone(name: str) -> Samples:
    """A tone that begins a second after the song, so that its place in time can be seen."""
    time = np.arange(LENGTH) / RATE
    wave = 0.15 * np.sin(2 * np.pi * HZ[name] * time) * (time > 1)
    return np.stack([wave, wave * 0.5]).astype(np.float32)


STEMS = {name: tone(name) for name in ("drums", "bass", "other", "vocals")}
MIX: Samples = np.sum(list(STEMS.values()), axis=0, dtype=np.float32)


def track_of(*names: str, model: str = "htdemucs") -> Track:
    track = track_pb2.Track(id="t", title="Song", artist="Band", duration_seconds=SECONDS)
    for name in names:
        track.stems.add(name=name, model=model, gain=GAIN, sample_rate_hz=RATE, duration_seconds=SECONDS)
    return track


def flac(samples: Samples, rate: int = RATE) -> io.BytesIO:
    file = io.BytesIO()
    audio.encode(samples, rate, file, "flac")
    return file


def planned(name: str, track: Track, **options: str) -> Rendering:
    export = EXPORTS[name]
    defaults = {option.name: option.choices[0] if option.choices else "" for option in export.options}
    made = export.make(track, defaults | options)
    assert isinstance(made, Rendering)
    return made


def rendered(name: str, sources: Sequence[io.BytesIO], parameters: dict[str, Any], path: Path) -> Path:
    render = EXPORTS[name].render
    assert render is not None
    seen: list[float] = []
    render(sources, json.loads(json.dumps(parameters)), path, seen.append, audio.Sandbox())
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    return path


def mixed(path: Path, wish: str, encoding: str = "wav") -> Samples:
    track = track_of(*STEMS)
    made = planned("mixdown", track, stems=wish, encoding=encoding)
    sources = [flac(STEMS[stem.name] * np.float32(GAIN)) for stem in made.stems]
    samples, rate = soundfile.read(rendered("mixdown", sources, made.parameters, path), dtype="float32")
    assert rate == RATE
    return np.ascontiguousarray(samples.T)


@pytest.mark.parametrize("encoding", ["wav", "flac"])
def test_all_stems_mixed_are_the_mix(tmp_path: Path, encoding: str) -> None:
    found = mixed(tmp_path / "mix", "drums,bass,other,vocals", encoding)
    assert found.shape == MIX.shape
    # Four stems were rounded to 24 bits at half their level, and their sum again.
    assert np.abs(found - MIX).max() < 9 * 2**-24


def test_gains_are_decibels(tmp_path: Path) -> None:
    found = mixed(tmp_path / "mix", "vocals:-6, drums:+3.5")
    expected = STEMS["vocals"] * 10 ** (-6 / 20) + STEMS["drums"] * 10 ** (3.5 / 20)
    assert np.abs(found - expected).max() < 1e-6


def test_a_pan_moves_a_stem_with_equal_power(tmp_path: Path) -> None:
    left, right = STEMS["vocals"]
    found = mixed(tmp_path / "mix", "vocals:-6:-0.5")
    expected = np.stack([left + right * np.sqrt(0.5), right * np.sqrt(0.5)]) * 10 ** (-6 / 20)
    assert np.abs(found - expected).max() < 1e-6
    found = mixed(tmp_path / "mix", "vocals::1")
    assert np.abs(found - np.stack([left * 0, left + right])).max() < 1e-6


def test_a_mixdown_that_would_clip_is_turned_down_as_a_whole(tmp_path: Path) -> None:
    found = mixed(tmp_path / "mix", "drums:12,bass:12,other:12,vocals:12")
    assert np.abs(MIX).max() * 10 ** (12 / 20) > 1.2
    expected = MIX / np.abs(MIX).max()
    assert np.abs(found - expected).max() < 1e-6


@pytest.mark.parametrize("encoding", ["mp3", "m4a", "opus"])
def test_lossy_mixdowns_keep_their_time(tmp_path: Path, encoding: str) -> None:
    made = planned("mixdown", track_of(*STEMS), stems="bass,vocals", encoding=encoding)
    sources = [flac(STEMS[stem.name] * np.float32(GAIN)) for stem in made.stems]
    found = audio.decode(rendered("mixdown", sources, made.parameters, tmp_path / "mix"), audio.NO_LIMITS)
    assert snr_db(STEMS["bass"] + STEMS["vocals"], found[:, :LENGTH]) > 20
    assert made.type.suffix == f".mixdown.{encoding}"


def test_silence_can_be_mixed(tmp_path: Path) -> None:
    parameters = {"encoding": "flac", "factors": [1.0], "pans": [0.0], "sample_rate_hz": RATE}
    path = rendered("mixdown", [flac(np.zeros((2, RATE), np.float32))], parameters, tmp_path / "mix")
    assert not soundfile.read(path)[0].any()


def test_a_mixdown_that_is_stopped_leaves_no_file(tmp_path: Path) -> None:
    def stop(done: float) -> None:
        if done > 0.7:
            raise StoppedError("stopped")

    parameters = {"encoding": "flac", "factors": [1.0], "pans": [0.0], "sample_rate_hz": RATE}
    with pytest.raises(StoppedError):
        mixdown.render([flac(MIX)], parameters, tmp_path / "mix", stop, audio.Sandbox())
    assert list(tmp_path.iterdir()) == []


def test_the_click_is_at_the_beats_and_higher_on_downbeats(tmp_path: Path) -> None:
    track = track_of()
    track.beats.extend(music_pb2.Beat(time=0.3 + 0.5 * n, position=n % 4 + 1) for n in range(7))
    made = planned("click", track)
    samples, rate = soundfile.read(rendered("click", [], made.parameters, tmp_path / "click"))
    assert (len(samples), rate, samples.ndim) == (LENGTH, RATE, 1)
    quiet = np.abs(samples) < 1e-3
    for n in range(7):
        start = round((0.3 + 0.5 * n) * RATE)
        assert quiet[start - 2000 : start].all()
        assert np.abs(samples[start : start + 40]).max() > 0.3
        spectrum = np.abs(np.fft.rfft(samples[start : start + 1764], RATE))
        assert np.argmax(spectrum) == pytest.approx(click.DOWNBEAT_HZ if n % 4 == 0 else click.BEAT_HZ, abs=60)
    assert np.abs(samples).max() < 1


def test_clicks_continue_across_the_ends_of_blocks_and_of_the_song(tmp_path: Path) -> None:
    edge = click.BLOCK_SAMPLES / RATE
    track = track_of()
    track.beats.extend(music_pb2.Beat(time=time) for time in (0.5, edge - 0.001, SECONDS - 0.001))
    made = planned("click", track, encoding="wav")
    samples, _ = soundfile.read(rendered("click", [], made.parameters, tmp_path / "click"))
    first, second = round(0.5 * RATE), round((edge - 0.001) * RATE)
    assert np.array_equal(samples[first : first + 1700], samples[second : second + 1700])
    assert len(samples) == LENGTH


def test_a_click_track_without_known_bars_has_no_accents() -> None:
    track = track_of()
    track.beats.extend(music_pb2.Beat(time=time) for time in (0.5, 1.0))
    assert planned("click", track).parameters["beats"] == [(0.5, False), (1.0, False)]


def stem_file(path: Path, names: Sequence[str], stems: dict[str, Samples], mix: io.BytesIO) -> Path:
    made = planned("stem.mp4", track_of(*names))
    assert made.with_mix
    sources = [mix, *(flac(stems[stem.name] * np.float32(GAIN)) for stem in made.stems)]
    return rendered("stem.mp4", sources, made.parameters, path)


def boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    found, position = [], 0
    while position < len(data):
        size, kind = struct.unpack(">I4s", data[position : position + 8])
        assert 8 <= size <= len(data) - position
        found.append((kind, data[position + 8 : position + size]))
        position += size
    return found


def box(data: bytes, *path: bytes) -> bytes:
    for kind in path:
        (data,) = (content for found, content in boxes(data) if found == kind)
    return data


def decoded_tracks(path: Path) -> list[Samples]:
    found: list[Samples] = []
    with av.open(str(path)) as container:
        count = len(container.streams.audio)
    for place in range(count):
        with av.open(str(path)) as container:
            frames = [frame.to_ndarray() for frame in container.decode(audio=place)]
        found.append(np.concatenate(frames, axis=1, dtype=np.float32))
    return found


def test_a_stem_file_has_the_mix_and_four_stems_in_time(tmp_path: Path) -> None:
    path = stem_file(tmp_path / "song.stem.mp4", list(STEMS), STEMS, flac(MIX))
    mix, *stems = decoded_tracks(path)
    for found, expected in zip([mix, *stems], [MIX, *STEMS.values()], strict=True):
        assert LENGTH <= found.shape[1] < LENGTH + 1024
        assert snr_db(expected, found[:, :LENGTH]) > 20
    with av.open(str(path)) as container:
        assert container.metadata["title"] == "Song"
        assert container.metadata["artist"] == "Band"
        streams = container.streams.audio
        assert [(stream.codec_context.name, stream.rate, stream.channels) for stream in streams] == [
            ("aac", RATE, 2)
        ] * 5


def test_a_stem_file_names_its_stems_and_enables_the_mix_alone(tmp_path: Path) -> None:
    data = stem_file(tmp_path / "song.stem.mp4", list(STEMS), STEMS, flac(MIX)).read_bytes()
    manifest = json.loads(box(data, b"moov", b"udta", b"stem"))
    assert manifest["version"] == 1
    assert [stem["name"] for stem in manifest["stems"]] == ["Drums", "Bass", "Other", "Vocals"]
    assert all(stem["color"].startswith("#") and len(stem["color"]) == 7 for stem in manifest["stems"])
    assert {"compressor", "limiter"} == set(manifest["mastering_dsp"])
    assert not manifest["mastering_dsp"]["compressor"]["enabled"]
    headers = [box(content, b"tkhd") for kind, content in boxes(box(data, b"moov")) if kind == b"trak"]
    assert [header[3] & 1 for header in headers] == [1, 0, 0, 0, 0]
    assert box(data, b"ftyp")[:4] == b"M4A "


def test_six_stems_become_four(tmp_path: Path) -> None:
    stems = STEMS | {name: tone(name) for name in ("guitar", "piano")}
    names = ["drums", "bass", "other", "vocals", "guitar", "piano", "no_vocals"]
    _, *found = decoded_tracks(stem_file(tmp_path / "song", names, stems, flac(MIX)))
    other = stems["other"] + stems["guitar"] + stems["piano"]
    assert snr_db(other, found[2][:, :LENGTH]) > 20
    assert snr_db(stems["vocals"], found[3][:, :LENGTH]) > 20


def test_a_mix_of_another_rate_and_length_is_adapted_to_the_stems(tmp_path: Path) -> None:
    mono = audio.resample(MIX[:1, : LENGTH - 10_000], RATE, 48_000)
    mix, drums, *_ = decoded_tracks(stem_file(tmp_path / "song", list(STEMS), STEMS, flac(mono, 48_000)))
    assert mix.shape == drums.shape
    assert snr_db(MIX[0, : LENGTH - 11_000], mix[1, : LENGTH - 11_000]) > 15
    assert np.abs(mix[:, LENGTH - 8_000 : LENGTH]).max() < 1e-3


@pytest.mark.parametrize("names", [("vocals", "accompaniment"), ("vocals", "no_vocals"), ("drums", "bass", "vocals")])
def test_other_stems_cannot_become_a_stem_file(names: tuple[str, ...]) -> None:
    with pytest.raises(NotFoundError, match=r"here is no .* a model that has these") as caught:
        stem_mp4.make(track_of(*names), {"model": ""})
    assert caught.value.reason == "NO_SUCH_STEM"


def test_user_data_is_added_if_there_is_none() -> None:
    def make(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I4s", 8 + len(content), kind) + content

    large = struct.pack(">I4sQ", 1, b"mdat", 20) + b"data"
    file = io.BytesIO(make(b"ftyp", b"M4A ") + large + make(b"moov", make(b"mvhd", b"x")))
    before = file.getvalue()
    add_user_data(file, b"stem", b"{}")
    assert file.getvalue()[:32] == before[:32]
    assert file.getvalue()[32:] == make(b"moov", make(b"mvhd", b"x") + make(b"udta", make(b"stem", b"{}")))
    with pytest.raises(ValueError, match="moov"):
        add_user_data(io.BytesIO(make(b"moov", b"") + make(b"mdat", b"x")), b"stem", b"{}")


@pytest.fixture
async def client(client: Client) -> Client:
    """Ann has a song with four stems."""
    track, store, library = track_of(*STEMS), open_store(client.settings), client.suite.library
    track.beats.extend(music_pb2.Beat(time=0.5 * n, position=n % 4 + 1) for n in range(8))
    library.tracks["ann"]["t"] = track
    await store.put(MARKER, b"of ann's library")
    for model, name, content in (
        ("", "", flac(MIX)),
        *(("htdemucs", name, flac(stem * np.float32(GAIN))) for name, stem in STEMS.items()),
    ):
        key = f"objects/{name or 'mix'}"
        await store.put(key, content.getvalue())
        library.media["t", model, name, AUDIO, ""] = media_pb2.GetMediaResponse(key=key)
    return client


async def get(client: Client, path: str) -> tuple[bytes, Any]:
    async with client.http.get(f"{PATH}/{path}") as response:
        assert response.status == 200, await response.text()
        content = await response.read()
        assert response.headers["Content-Length"] == str(len(content))
        return content, response.headers


async def test_sound_over_http(client: Client, tmp_path: Path) -> None:
    content, headers = await get(client, "mixdown?stems=drums,bass,other,vocals")
    assert headers["Content-Type"] == "audio/flac"
    assert np.abs(soundfile.read(io.BytesIO(content), dtype="float32")[0].T - MIX).max() < 9 * 2**-24
    assert "Band%20-%20Song.mixdown.flac" in headers["Content-Disposition"]
    content, headers = await get(client, "click?encoding=wav")
    assert headers["Content-Type"] == "audio/wav"
    assert len(soundfile.read(io.BytesIO(content))[0]) == LENGTH
    content, headers = await get(client, "stem.mp4")
    assert headers["Content-Type"] == "audio/mp4"
    path = tmp_path / "song.stem.mp4"
    path.write_bytes(content)
    assert len(decoded_tracks(path)) == 5
    async with client.http.head(f"{PATH}/stem.mp4") as response:
        assert (response.status, response.headers["Content-Disposition"]) == (200, headers["Content-Disposition"])
    async with client.http.get(f"{PATH}/stems") as response:
        assert response.status == 200


async def test_a_client_that_disconnects_frees_the_renderer(client: Client) -> None:
    with pytest.raises(TimeoutError):
        await client.http.get(f"{PATH}/stem.mp4", timeout=aiohttp.ClientTimeout(total=0.05))
    content, _ = await get(client, "click?encoding=wav")
    assert len(soundfile.read(io.BytesIO(content))[0]) == LENGTH


async def test_a_missing_mix(client: Client) -> None:
    await open_store(client.settings).delete("objects/mix")
    assert await client.refused("GET", f"{PATH}/stem.mp4") == (404, "NO_SUCH_OBJECT")


async def test_exports_are_unavailable_not_missing_while_the_store_is_away(client: Client, tmp_path: Path) -> None:
    (tmp_path / "data" / "objects").rename(tmp_path / "away")
    (tmp_path / "data" / "objects").mkdir()
    for name in ("stem.mp4", "stems"):
        assert await client.refused("GET", f"{PATH}/{name}") == (503, "STORE_AWAY")


def test_stems_of_several_models_need_a_name() -> None:
    track = track_of(*STEMS)
    track.stems.extend(track_of("vocals", model="spleeter_2stems").stems)
    with pytest.raises(InvalidInputError, match="htdemucs or spleeter_2stems"):
        planned("stem.mp4", track)
    assert len(planned("stem.mp4", track, model="htdemucs").stems) == 4
