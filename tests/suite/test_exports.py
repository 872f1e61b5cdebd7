"""A real song, processed by the real suite and exported in every format."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest
import soundfile

from cli.api import Api
from cli.commands.export import export
from services.common import audio
from services.common.audio import Samples
from songs.song import DemoSong
from tests.suite.client import Client, Json
from tests.suite.running import PASSWORD, Suite

FORMATS = (
    *("lrc", "srt", "chordpro", "chords.lab", "beats.lab", "sections.lab", "json", "audacity", "reaper", "jams"),
    *("midi", "stems", "click", "mixdown?stems=vocals"),
)
SECONDS = 18


@pytest.fixture(scope="module")
def excerpt(song: DemoSong) -> Samples:
    """A song with words that other tests have not processed."""
    return song.mix[:, : SECONDS * 44_100] * np.float32(0.8)


@pytest.fixture(scope="module")
def excerpt_file(excerpt: Samples, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("excerpt") / "Morning Light.flac"
    audio.encode(excerpt, 44_100, path, "flac")
    return path


async def processed(client: Client, song_file: Path) -> Json:
    answer = await client.uploaded(song_file)
    await client.end_of(answer["job"]["job"]["id"])
    track: Json = (await client.get(f"/tracks/{answer['track']['id']}"))["track"]
    return track


async def test_a_song_is_exported_in_every_format(
    client: Client, ben: Client, excerpt: Samples, excerpt_file: Path
) -> None:
    track = await processed(client, excerpt_file)
    path = f"/tracks/{track['id']}/exports"
    files: dict[str, bytes] = {}
    for name in FORMATS:
        status, files[name], headers = await client.bytes(f"{path}/{name}")
        assert (status, bool(files[name])) == (200, True), name
        assert "filename*=UTF-8''Morning%20Light." in headers["Content-Disposition"]
        assert (await ben.bytes(f"{path}/{name}"))[0] == 404
    _sums_to_the_mix(files["stems"], track, excerpt)
    _clicks_at_the_beats(files["click"], track)
    _midi_runs_with_the_song(files["midi"], track)
    assert [beat["time"] for beat in json.loads(files["json"])["beats"]] == [beat["time"] for beat in track["beats"]]

    status, mix, _ = await client.bytes(f"{path}/mixdown?stems=vocals,accompaniment&encoding=wav")
    assert status == 200
    assert np.abs(soundfile.read(io.BytesIO(mix), dtype="float32")[0].T - excerpt).max() < 1e-5

    status, answer = await client.call("GET", f"{path}/stem.mp4")
    assert (status, answer["details"][0]["reason"]) == (404, "NO_SUCH_STEM")
    assert "no drums and no bass" in answer["message"]


async def test_the_command_line_saves_an_export(
    suite: Suite, client: Client, excerpt_file: Path, tmp_path: Path
) -> None:
    track = await processed(client, excerpt_file)
    async with Api(suite.url) as api:
        await api.sign_in("admin", PASSWORD)
        saved = await export(api, track["id"], "mixdown", ["stems=vocals:-3", "encoding=m4a"], tmp_path)
    assert saved.name == "Morning Light.mixdown.m4a"
    assert audio.probe(saved, audio.NO_LIMITS).codec == "aac"


def _sums_to_the_mix(content: bytes, track: Json, excerpt: Samples) -> None:
    gains = {stem["name"]: stem["gain"] for stem in track["stems"]}
    total: Any = 0
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        for name in archive.namelist():
            samples, rate = soundfile.read(io.BytesIO(archive.read(name)), dtype="float32")
            assert rate == 44_100
            total = total + samples.T / gains[Path(name).stem]
    assert np.abs(total - excerpt).max() < 1e-5


def _clicks_at_the_beats(content: bytes, track: Json) -> None:
    samples, rate = soundfile.read(io.BytesIO(content))
    assert abs(len(samples) / rate - track["durationSeconds"]) < 1e-3
    for beat in track["beats"]:
        start = round(beat["time"] * rate)
        assert np.abs(samples[start : start + 44]).max(initial=0) > 0.3 or start + 44 > len(samples)


def _midi_runs_with_the_song(content: bytes, track: Json) -> None:
    file = mido.MidiFile(file=io.BytesIO(content), charset="utf-8")
    assert abs(file.length - track["durationSeconds"]) < 0.01
    times, now = [], 0.0
    for message in file:
        now += message.time
        if message.type == "marker":
            times.append(now)
    assert np.allclose(times, [chord["start"] for chord in track["chords"]], atol=2e-3)
