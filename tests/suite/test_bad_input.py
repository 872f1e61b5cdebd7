"""Unusable input gives one clear error and leaves nothing behind, and the suite goes on."""

import asyncio
import contextlib
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from services.common.errors import Code
from songs.small_songs import music
from stemtube.auth.v1 import session_pb2
from stemtube.download.v1 import track_pb2 as pb
from tests.common.audio_files import aac_of_hours, flac_of_hours, png, with_ffmpeg, with_soundfile
from tests.download.site import Site
from tests.suite.client import Client, Json, part_of, reason, states
from tests.suite.grpc_client import GrpcClient, refusal
from tests.suite.running import MAX_BYTES, MAX_SECONDS, Suite

KEY_ONLY = {"analyses": [{"part": "PART_KEY", "backend": "librosa"}]}
Make = Callable[[Path], Path]


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    await site.start()
    yield site
    await site.stop()


def _bytes(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _cut(path: Path) -> Path:
    content = with_soundfile(path, music(20)).read_bytes()
    return _bytes(path, content[: len(content) // 2])


BAD: dict[str, tuple[str, Make, int, str]] = {
    "text": ("song.mp3", lambda path: _bytes(path, b"this is not music " * 500), 400, "NOT_AUDIO"),
    "a picture": ("cover.mp3", lambda path: _bytes(path, png()), 400, "NOT_AUDIO"),
    "empty": ("song.wav", lambda path: _bytes(path, b""), 400, "EMPTY_FILE"),
    "no samples": ("song.wav", lambda path: with_soundfile(path, np.zeros((2, 0), np.float32)), 400, "NO_SAMPLES"),
    "cut off": ("song.flac", _cut, 400, "TRUNCATED"),
    "video without sound": ("clip.mp4", lambda path: with_ffmpeg(path, None, video=True), 400, "NO_AUDIO_STREAM"),
    "too long": (
        "long.flac",
        lambda path: with_soundfile(path, np.zeros((1, 8000 * (MAX_SECONDS + 5)), np.float32), 8000),
        413,
        "TOO_LONG",
    ),
    "hours in a small file": ("bomb.flac", lambda path: flac_of_hours(path, 3, declared=False), 413, "TOO_LONG"),
    "hours without a header": ("bomb.aac", lambda path: aac_of_hours(path, 3), 413, "TOO_LONG"),
    "too large": ("big.wav", lambda path: _bytes(path, bytes(MAX_BYTES + 1)), 413, "TOO_LARGE"),
}


@pytest.mark.parametrize("kind", BAD)
async def test_a_bad_file_is_refused_and_leaves_nothing(
    kind: str, suite: Suite, client: Client, tmp_path: Path
) -> None:
    name, make, status_expected, reason_expected = BAD[kind]
    before = await _everything(suite, client)
    status, answer = await client.upload(make(tmp_path / name))
    assert (status, reason(answer)) == (status_expected, reason_expected), answer
    assert answer["message"]
    # The gateway refuses a large file before the library has deleted the bytes that had arrived.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            while await _everything(suite, client) != before:
                await asyncio.sleep(0.1)
    assert await _everything(suite, client) == before


@pytest.mark.parametrize("kind", BAD)
async def test_a_bad_file_is_refused_by_grpc_too(
    kind: str, suite: Suite, client: Client, grpc_client: GrpcClient, tmp_path: Path
) -> None:
    name, make, status, reason_expected = BAD[kind]
    before = await _everything(suite, client)
    error = await refusal(grpc_client.upload(make(tmp_path / name)))
    code = {400: Code.INVALID_ARGUMENT, 413: Code.RESOURCE_EXHAUSTED}[status]
    assert (error.code, error.reason) == (code, reason_expected)
    assert await _everything(suite, client) == before


# yt-dlp refuses a file without content before the library sees it.
BEHIND_LINKS = {kind: reason for kind, (*_, reason) in BAD.items()} | {"empty": "FETCH_FAILED"}


@pytest.mark.parametrize("kind", BEHIND_LINKS)
async def test_a_bad_file_behind_a_link_fails_its_job_and_leaves_nothing(
    kind: str, suite: Suite, client: Client, site: Site, tmp_path: Path
) -> None:
    before = await _everything(suite, client)
    url = site.put(BAD[kind][1](tmp_path / BAD[kind][0]))
    status, added = await client.call("POST", "/tracks", json={"url": url})
    assert status == 200, added
    job = await client.end_of(added["job"]["job"]["id"])
    assert (states(job)["acquire"], job["job"]["error"]["reason"]) == ("failed", BEHIND_LINKS[kind]), job
    status, answer = await client.call("GET", f"/tracks/{added['track']['id']}")
    assert (status, reason(answer)) == (404, "NO_SUCH_TRACK")
    after = await _everything(suite, client)
    # A failed job and its request are kept for a while.
    assert after | {name: before[name] for name in ("job", "job_request")} == before


async def _crash_decoder(suite: Suite, service: str) -> None:
    """Crashes a service's next decoder, as a file could that makes it read invalid memory."""
    parent = psutil.Process(suite.processes[service].pid)
    async with asyncio.timeout(60):
        while True:
            for process in parent.children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if "sandbox_child" in " ".join(process.cmdline()):
                        process.send_signal(signal.SIGSEGV)
                        return
            await asyncio.sleep(0.03)


async def test_a_crashing_decoder_fails_only_its_file(suite: Suite, client: Client, tmp_path: Path) -> None:
    song = with_soundfile(tmp_path / "crash.flac", music(20, seed=77))
    before = await _everything(suite, client)
    crashing = asyncio.create_task(_crash_decoder(suite, "download"))
    status, answer = await client.upload(song, KEY_ONLY)
    await crashing
    assert (status, reason(answer)) == (400, "DECODER_CRASHED"), answer
    assert await _everything(suite, client) == before
    crashing = asyncio.create_task(_crash_decoder(suite, "analysis"))
    added = await client.uploaded(song, KEY_ONLY)
    await crashing
    job = await client.end_of(added["job"]["job"]["id"])
    assert (states(job)["key"], part_of(job, "key")["error"]["reason"]) == ("failed", "DECODER_CRASHED"), job


async def test_refusals_by_grpc(client: Client, grpc_client: GrpcClient, tmp_path: Path) -> None:
    tracks, metadata = grpc_client.tracks, grpc_client.metadata
    error = await refusal(tracks.CreateTrack(pb.CreateTrackRequest(url="http://[oops/x"), metadata=metadata))
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "BAD_URL")
    login = session_pb2.LoginRequest(username="ben", password="wrong one")
    error = await refusal(grpc_client.sessions.Login(login))
    assert (error.code, error.reason) == (Code.UNAUTHENTICATED, "BAD_CREDENTIALS")
    added = await client.uploaded(with_soundfile(tmp_path / "mine.wav", music(3, seed=19)), KEY_ONLY)
    for track_id in ("0" * 32, added["track"]["id"]):
        error = await refusal(tracks.GetTrack(pb.GetTrackRequest(track_id=track_id), metadata=metadata))
        assert (error.code, error.reason) == (Code.NOT_FOUND, "NO_SUCH_TRACK")
    error = await refusal(tracks.GetTrack(pb.GetTrackRequest(track_id=added["track"]["id"])))
    assert error.code == Code.UNAUTHENTICATED
    await client.end_of(added["job"]["job"]["id"])


GOOD: dict[str, Make] = {
    "mono, 8 kHz, 8 bit": lambda folder: with_soundfile(folder / "a.wav", music(6, 8000, 1), 8000, "PCM_U8"),
    "192 kHz, 24 bit": lambda folder: with_soundfile(folder / "b.wav", music(4, 192_000), 192_000, "PCM_24"),
    "float": lambda folder: with_soundfile(folder / "c.wav", music(4), subtype="FLOAT"),
    "5.1": lambda folder: with_ffmpeg(folder / "d.flac", music(4, 48_000, 6), "flac", rate=48_000, layout="5.1"),
    "Vorbis": lambda folder: with_soundfile(folder / "e.ogg", music(4)),
    "video with sound": lambda folder: with_ffmpeg(folder / "f.mp4", music(4), "aac", video=True),
}


@pytest.mark.parametrize("kind", GOOD)
async def test_every_kind_of_audio_file_works(kind: str, client: Client, tmp_path: Path) -> None:
    added = await client.uploaded(GOOD[kind](tmp_path), KEY_ONLY)
    job = await client.end_of(added["job"]["job"]["id"])
    assert states(job) == {"acquire": "succeeded", "key": "succeeded"}, job


BAD_LINKS = {
    "ftp": "ftp://example.org/song.mp3",
    "a file": "file:///etc/passwd",
    "no address": "song",
    "loopback": "http://localhost/song.mp3",
    "metadata": "http://169.254.169.254/latest/meta-data",
    "another port": "https://example.org:8443/song.mp3",
    "half an address": "http://[oops/x",
    "an empty label": "http://a..b/",
    "a space in the host": "http://exam ple.org/",
    "a password": "https://me:secret@example.org/song.mp3",
}


@pytest.mark.parametrize("kind", BAD_LINKS)
async def test_a_bad_link_is_refused(kind: str, client: Client) -> None:
    status, answer = await client.call("POST", "/tracks", json={"url": BAD_LINKS[kind]})
    assert (status, reason(answer)) == (400, "BAD_URL")
    assert "secret" not in str(answer)


BAD_OPTIONS: dict[str, tuple[Any, str]] = {
    "model": ({"separations": [{"model": "nope"}]}, "UNKNOWN_MODEL"),
    "stem": ({"separations": [{"model": "spleeter_2stems", "stems": ["kazoo"]}]}, "UNKNOWN_STEM"),
    "backend": ({"analyses": [{"part": "PART_KEY", "backend": "nope"}]}, "UNKNOWN_BACKEND"),
    "whisper model": ({"analyses": [{"part": "PART_LYRICS", "model": "nope"}]}, "UNKNOWN_MODEL"),
    "part": ({"analyses": [{"backend": "madmom"}]}, "BAD_REQUEST"),
    "part twice": ({"analyses": [{"part": "PART_KEY"}, {"part": "PART_KEY"}]}, "BAD_REQUEST"),
    "field": ({"colour": "blue"}, "BAD_REQUEST"),
}


@pytest.mark.parametrize("kind", BAD_OPTIONS)
async def test_unknown_options_are_refused(kind: str, suite: Suite, client: Client, tmp_path: Path) -> None:
    options, expected = BAD_OPTIONS[kind]
    before = await _everything(suite, client)
    status, answer = await client.upload(with_soundfile(tmp_path / "a.wav", music(2)), options)
    assert (status, reason(answer)) == (400, expected), answer
    assert await _everything(suite, client) == before


async def test_an_unavailable_model_fails_its_part_and_says_how_to_get_it(client: Client, tmp_path: Path) -> None:
    options = {"separations": [{"model": "htdemucs"}], **KEY_ONLY}
    added = await client.uploaded(with_soundfile(tmp_path / "a.wav", music(5)), options)
    job = await client.end_of(added["job"]["job"]["id"])
    assert states(job) == {"acquire": "succeeded", "separation": "failed", "key": "succeeded"}
    error = next(part["error"] for part in job["parts"] if part["name"] == "separation")
    assert error["reason"] == "WEIGHTS_MISSING"
    assert "models pull htdemucs" in error["message"]


async def test_a_wrong_password_is_refused(suite: Suite) -> None:
    async with Client(suite.url) as stranger:
        for name in ("admin", "nobody"):
            status, answer = await stranger.call(
                "POST", "/auth/login", json={"username": name, "password": "wrong one"}
            )
            assert (status, reason(answer)) == (401, "BAD_CREDENTIALS")
        status, answer = await stranger.call("GET", "/tracks")
        assert status == 401


async def test_missing_items_and_those_of_other_users_are_not_found(
    client: Client, ben: Client, tmp_path: Path
) -> None:
    added = await client.uploaded(with_soundfile(tmp_path / "mine.wav", music(3, seed=9)), KEY_ONLY)
    track, job = added["track"]["id"], added["job"]["job"]["id"]
    await client.end_of(job)
    for track_id, job_id in ((track, job), ("0" * 32, "0" * 34)):
        attempts = [
            ("GET", f"/tracks/{track_id}"),
            ("DELETE", f"/tracks/{track_id}"),
            ("POST", f"/tracks/{track_id}/process"),
            ("GET", f"/tracks/{track_id}/audio"),
            ("GET", f"/tracks/{track_id}/peaks"),
            ("GET", f"/tracks/{track_id}/stems/spleeter_2stems/vocals"),
            ("GET", f"/jobs/{job_id}"),
            ("POST", f"/jobs/{job_id}/cancel"),
        ]
        for method, path in attempts:
            body: Json = {"json": {"options": KEY_ONLY} if path.endswith("process") else {}} if method == "POST" else {}
            status, answer = await ben.call(method, path, **body)
            assert (status, reason(answer)) == (404, "NO_SUCH_TRACK" if "tracks" in path else "NO_SUCH_JOB"), path
    assert track not in str(await ben.get("/tracks"))
    assert job not in str(await ben.get("/jobs"))
    assert (await client.get(f"/tracks/{track}"))["track"]["key"]


async def test_pages_of_a_list_and_an_invalid_page_token(client: Client, tmp_path: Path) -> None:
    ids = []
    for number in range(3):
        added = await client.uploaded(with_soundfile(tmp_path / f"{number}.wav", music(2, seed=number + 50)), KEY_ONLY)
        ids.append(added["track"]["id"])
    found: list[str] = []
    token = ""
    while len(found) < 3:
        page = await client.get(f"/tracks?page_size=2&page_token={token}")
        found += [track["id"] for track in page["tracks"]]
        token = page["nextPageToken"]
    assert found[:3] == list(reversed(ids))
    status, answer = await client.call("GET", "/tracks?page_token=nonsense")
    assert (status, reason(answer)) == (400, "BAD_PAGE_TOKEN")


async def _everything(suite: Suite, client: Client) -> dict[str, Any]:
    """All objects, the number of the user's tracks, and of rows in the library's tables."""
    objects = suite.data / "objects"
    files = {str(path.relative_to(objects)) for path in objects.rglob("*") if path.is_file()}
    tracks = len((await client.get("/tracks?page_size=200"))["tracks"])
    with contextlib.closing(sqlite3.connect(suite.data / "databases" / "download.sqlite")) as database:
        tables = ("tracks", "access", "stems", "analyses", "own_stems", "own_analyses", "job", "job_request")
        rows = {table: database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}
    return {"objects": files, "listed": tracks, **rows}
