"""Separation for users: stems that play before they are complete, two stems, karaoke, options, an own model."""

import asyncio
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from services.common.errors import Code
from songs.small_songs import music
from tests.common.audio_files import with_soundfile
from tests.separation.test_models import write_package
from tests.suite.client import Client, Json, part_of, reason, states
from tests.suite.running import Suite

BEST = {"quality": "QUALITY_BEST"}


async def separated(client: Client, path: Path, choice: Json) -> Json:
    added = await client.uploaded(path, {"separations": [choice]})
    job = await client.end_of(added["job"]["job"]["id"])
    assert states(job)["separation"] == "succeeded", job
    track: Json = (await client.get(f"/tracks/{added['track']['id']}"))["track"]
    return track


async def read(client: Client, path: str) -> np.ndarray:
    status, data, _ = await client.bytes(path.removeprefix("/api/v1"))
    assert status == 200
    samples: np.ndarray = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)[0].T
    return samples


@pytest.mark.long
async def test_stems_play_while_the_rest_is_computed(client: Client, ben: Client, tmp_path: Path) -> None:
    added = await client.uploaded(with_soundfile(tmp_path / "long.flac", music(80, seed=101)), {"separations": [BEST]})
    job_id = added["job"]["job"]["id"]
    live: Json | None = None
    async with asyncio.timeout(60):
        while not live:
            part = part_of((await client.get(f"/jobs/{job_id}"))["job"], "separation")
            assert part["state"] != "JOB_STATE_SUCCEEDED", "nothing was to be heard before the end"
            live = part.get("live")
            await asyncio.sleep(0.05)
    assert {stem["name"] for stem in live["stems"]} == {"vocals", "accompaniment"}
    assert live["readySeconds"] >= 5
    playlist = next(stem["playlist"] for stem in live["stems"] if stem["name"] == "vocals").removeprefix("/api/v1")
    status, text, headers = await client.bytes(playlist)
    assert (status, headers["Content-Type"].partition(";")[0]) == (200, "application/vnd.apple.mpegurl")
    files = [line for line in text.decode().splitlines() if not line.startswith("#")]
    early = await read(client, f"{playlist.rpartition('/')[0]}/{files[0]}")
    assert early.shape == (2, 5 * 44_100)
    for other in (playlist, f"{playlist.rpartition('/')[0]}/{files[0]}"):
        assert (await ben.bytes(other))[0] == 404
    assert (await client.bytes(f"{playlist.rpartition('/')[0]}/999.flac"))[0] == 404

    await client.end_of(job_id)
    track = (await client.get(f"/tracks/{added['track']['id']}"))["track"]
    whole = await read(client, next(stem["audio"] for stem in track["stems"] if stem["name"] == "vocals"))
    np.testing.assert_allclose(early, whole[:, : early.shape[1]], atol=2**-22)
    assert (await client.bytes(playlist))[0] == 404


async def test_the_early_files_are_deleted(client: Client, suite: Suite, tmp_path: Path) -> None:
    stems = suite.data / "objects" / "stems"
    # Objects of attempts that other tests of this suite killed stay until the sweep.
    before = set(stems.glob("*"))
    await separated(client, with_soundfile(tmp_path / "a.flac", music(12, seed=102)), {})
    stored = {path.name for job in set(stems.glob("*")) - before for path in job.rglob("*")}
    assert "vocals.flac" in stored
    assert "live" not in stored


async def test_two_stems_and_karaoke(client: Client, tmp_path: Path) -> None:
    path = with_soundfile(tmp_path / "mix.flac", music(6, seed=103))
    mix = soundfile.read(path, dtype="float32", always_2d=True)[0].T
    two = {"model": "spleeter_2stems", "stems": ["vocals", "no_vocals"], "rest": "REST_MINUS"}
    track = await separated(client, path, two)
    assert [stem["name"] for stem in track["stems"]] == ["vocals", "no_vocals"]
    vocals, rest = [await read(client, stem["audio"]) for stem in track["stems"]]
    np.testing.assert_allclose(vocals + rest, mix, atol=1e-5)

    karaoke = with_soundfile(tmp_path / "karaoke.flac", music(6, seed=104))
    track = await separated(client, karaoke, {"model": "spleeter_2stems", "stems": ["no_vocals"]})
    assert [stem["name"] for stem in track["stems"]] == ["no_vocals"]


async def test_options_out_of_range_are_refused(client: Client, tmp_path: Path) -> None:
    path = with_soundfile(tmp_path / "a.wav", music(3, seed=105))
    for choice in ({"overlap": 0.95}, {"overlap": -0.1}, {"shifts": 21}, {"shifts": -1}):
        status, answer = await client.upload(path, {"separations": [choice]})
        assert (status, reason(answer)) == (400, "INVALID_OPTION"), answer
        assert answer["code"] == Code.INVALID_ARGUMENT


async def test_a_users_own_demucs_model(client: Client, suite: Suite, tmp_path: Path) -> None:
    folder = suite.data / "models" / "demucs"
    folder.mkdir(parents=True, exist_ok=True)
    write_package(folder, "abcd1234", seed=3)
    path = with_soundfile(tmp_path / "own.flac", music(6, seed=106))
    try:
        choice = {"model": "abcd1234", "stems": ["vocals", "no_vocals"], "shifts": 1, "overlap": 0.1}
        track = await separated(client, path, choice)
    finally:
        for file in folder.glob("abcd1234*"):
            file.unlink()
    assert [stem["name"] for stem in track["stems"]] == ["vocals", "no_vocals"]
    assert all(stem["durationSeconds"] == 6 for stem in track["stems"])
    assert track["stems"][0]["madeBy"]["model"] == "abcd1234"
