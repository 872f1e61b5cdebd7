"""`stemtube add` on a real library: folders, files that are not songs, and a gateway that restarts in between."""

import asyncio
import io
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from cli import resumable
from cli.api import Api, ApiError, AwayError
from cli.commands.add import Added, add
from cli.resumable import upload_file
from services.common import audio
from songs.small_songs import music
from tests.common.audio_files import with_soundfile
from tests.suite.running import MAX_BYTES, PASSWORD, ROOT, Suite


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    suite = Suite(tmp_path_factory.mktemp("add"))
    try:
        suite.start("auth", "download", "gateway")
        yield suite
    finally:
        # A clean stop is slow, and other tests cover it.
        for name in suite.processes:
            suite.kill(name)


@pytest.fixture
async def api(suite: Suite) -> AsyncIterator[Api]:
    async with Api(suite.url) as api:
        await api.sign_in("admin", PASSWORD)
        yield api


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    folder = tmp_path / "songs"
    for number, name in enumerate(("a.wav", "Album/b.flac", "Album/Disc 2/c.ogg")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with_soundfile(folder / name, music(2, seed=number))
    (folder / "Album" / "cover.jpg").write_bytes(b"\xff\xd8\xff" + bytes(500))
    (folder / "notes.txt").write_text("The capo goes on the second fret. " * 20)
    (folder / "empty.mp3").touch()
    (folder / ".hidden").mkdir()
    with_soundfile(folder / ".hidden" / "d.wav", music(2, seed=9))
    return folder


async def added(api: Api, *sources: Path) -> tuple[Added, list[str]]:
    console = Console(file=io.StringIO(), width=300)
    summary = await add(api, [str(source) for source in sources], console)
    return summary, console.file.getvalue().splitlines()  # type: ignore[attr-defined]


async def test_all_songs_below_a_folder(api: Api, songs: Path) -> None:
    summary, told = await added(api, songs)
    assert (summary.added, summary.skipped, summary.failed, summary.is_complete) == (3, 3, 0, True)
    lines = {line.split(str(songs))[1].split(":")[0]: line for line in told[:-1]}
    assert {name for name, line in lines.items() if line.startswith("added")} == {
        "/a.wav",
        "/Album/b.flac",
        "/Album/Disc 2/c.ogg",
    }
    for name in ("/Album/cover.jpg", "/notes.txt", "/empty.mp3"):
        assert lines[name].startswith("skipped")
        assert len(lines[name].partition(": ")[2]) > 10
    assert told[-1] == "3 added, 3 skipped, 0 failed"
    listed = await api.get("/api/v1/tracks")
    assert {track["title"] for track in listed["tracks"]} == {"a", "b", "c"}
    jobs = (await api.get("/api/v1/jobs"))["jobs"]
    assert len(jobs) == 3


async def test_a_refused_song_does_not_stop_the_command(api: Api, songs: Path) -> None:
    silence = np.zeros((2, MAX_BYTES // 4 + 1), np.float32)
    audio.encode(silence, 44_100, songs / "0.wav", "wav")
    summary, told = await added(api, songs)
    assert (summary.added, summary.failed, summary.is_complete) == (3, 1, False)
    assert told[0].startswith("failed")
    assert "larger" in told[0]


async def test_missing_files(api: Api, songs: Path, suite: Suite) -> None:
    with pytest.raises(ApiError, match="no file or folder"):
        await added(api, songs, songs / "nothing")
    folder = songs / "nothing"
    folder.mkdir()
    summary, _ = await added(api, folder)
    assert not summary.is_complete
    async with Api("http://127.0.0.1:1") as nowhere:
        with pytest.raises(AwayError):
            await added(nowhere, songs)


async def test_a_large_upload_survives_the_death_of_the_gateway(
    api: Api, suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resumable, "PIECE_BYTES", 3_000_000)
    noise = np.random.default_rng(5).uniform(-0.5, 0.5, (2, 50 * 44_100)).astype(np.float32)
    song = tmp_path / "Täuschung.wav"
    audio.encode(noise, 44_100, song, "wav")
    assert song.stat().st_size > resumable.SMALL_BYTES
    restarts: list[asyncio.Task[None]] = []
    seen: list[float] = []

    def on_progress(done: float) -> None:
        seen.append(done)
        if done > 0.5 and not restarts:
            suite.kill("gateway")
            restarts.append(asyncio.create_task(asyncio.to_thread(suite.start, "gateway")))

    found = await upload_file(api, song, on_progress, {"analyses": [{"part": "PART_KEY"}]})
    await restarts[0]
    assert found["track"]["title"] == "Täuschung"
    assert [part["name"] for part in found["job"]["parts"]] == ["acquire", "key"]
    assert seen[-1] == 1.0
    kept = tmp_path / "kept.wav"
    await api.download(found["track"]["audio"], kept)
    assert kept.read_bytes() == song.read_bytes()


async def test_a_large_file_that_is_not_a_song_is_refused_with_the_reason(api: Api, tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    path.write_bytes(b"no song " * 1_100_000)
    with pytest.raises(ApiError, match="audio"):
        await upload_file(api, path, lambda _done: None)


def test_the_exit_code_shows_whether_all_songs_were_added(suite: Suite, songs: Path, tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STEMTUBE_")}
    path = os.pathsep.join((str(ROOT), str(ROOT / "protos" / "gen")))

    def run(folder: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "cli", "add", str(folder)],
            cwd=tmp_path,
            env={**clean, "PYTHONPATH": path, "STEMTUBE_URL": suite.url, "STEMTUBE_PASSWORD": PASSWORD},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    done = run(songs / "Album" / "Disc 2")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "1 added, 0 skipped, 0 failed")
    (songs / "Album" / "Disc 2" / "c.ogg").unlink()
    assert run(songs / "Album" / "Disc 2").returncode == 1
