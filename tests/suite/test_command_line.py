"""The command line on a running suite: a song goes in, stems and a result come out."""

import io
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from rich.console import Console

from cli.api import Api
from cli.commands.process import Outcome, make_options, process
from services.common import audio
from songs.small_songs import music
from tests.common.audio_files import with_soundfile
from tests.suite.running import PASSWORD, ROOT, Suite

SECONDS = 6
STEMS = ["vocals", "accompaniment"]


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_soundfile(tmp_path_factory.mktemp("song") / "A Song.flac", music(SECONDS, seed=77))


@pytest.fixture
async def site(song: Path) -> AsyncIterator[str]:
    """A web site with the song; the suite's settings allow its host."""

    async def whole(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(song)

    app = web.Application()
    app.router.add_get("/A Song.flac", whole)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/A%20Song.flac"
    await runner.cleanup()


async def processed(suite: Suite, source: str, out: Path, console: Console) -> Outcome:
    options = make_options(["spleeter_2stems"], ["beats=librosa", "key=librosa", "lyrics=whisper/tiny.en"], "en")
    async with Api(suite.url) as api:
        await api.sign_in("admin", PASSWORD)
        return await process(api, source, out, console, options=options)


@pytest.mark.parametrize("kind", ["file", "link"])
async def test_a_song_is_processed_and_shown(kind: str, suite: Suite, song: Path, site: str, tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=100)
    outcome = await processed(suite, str(song) if kind == "file" else site, tmp_path, console)
    assert outcome.failed == {}
    assert outcome.stems == [tmp_path / "A Song" / f"{name}.flac" for name in STEMS]
    for path in outcome.stems:
        assert audio.decode(path, audio.NO_LIMITS).shape == (2, SECONDS * 44_100)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for word in ("A Song", "separation", "Key", "Chords", "vocals.flac"):
        assert word in shown


def test_only_json_is_printed_and_it_has_the_paths_of_the_stems(suite: Suite, song: Path, tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STEMTUBE_")}
    path = os.pathsep.join((str(ROOT), str(ROOT / "protos" / "gen")))
    arguments = ["--json", "--backend", "beats=librosa", "--backend", "key=librosa"]
    done = subprocess.run(
        [sys.executable, "-m", "cli", "process", str(song), *arguments],
        cwd=tmp_path,
        env={**clean, "PYTHONPATH": path, "STEMTUBE_URL": suite.url, "STEMTUBE_PASSWORD": PASSWORD},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["title"] == "A Song"
    assert [stem["name"] for stem in result["stems"]] == STEMS
    files = [Path(file) for file in result["files"]]
    assert files == [tmp_path / "out" / "A Song" / f"{name}.flac" for name in STEMS]
    assert all(file.stat().st_size > 1000 for file in files)
    assert "beats" in done.stderr


@pytest.mark.long
def test_accounts_from_the_command_line(suite: Suite, tmp_path: Path) -> None:
    def stemtube(*arguments: str, password: str = PASSWORD, **environment: str) -> subprocess.CompletedProcess[str]:
        own = {"STEMTUBE_URL": suite.url, "STEMTUBE_PASSWORD": password, "PYTHONPATH": f"{ROOT}:{ROOT}/protos/gen"}
        return subprocess.run(
            [sys.executable, "-m", "cli", *arguments],
            env={**os.environ, **own, **environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    first = stemtube("admin", "users", "add", "Dora", "--email", "dora@example.org").stdout.strip()
    refused = stemtube("models", "list", "--user", "dora", password=first)
    assert (refused.returncode, refused.stderr) == (
        1,
        "stemtube: this is a one-time password: choose your own with `stemtube password`\n",
    )
    changed = stemtube("password", "--user", "dora", password=first, STEMTUBE_NEW_PASSWORD="a password of my own")
    assert changed.stdout == "The password is changed.\n"
    assert stemtube("models", "list", "--user", "dora", password="a password of my own").returncode == 0

    assert stemtube("admin", "users", "change", "DORA", "--disable", "--email", "").returncode == 0
    listed = stemtube("admin", "users", "list").stdout
    assert "disabled" in next(line for line in listed.splitlines() if "Dora" in line)
    assert "dora@example.org" not in listed
    assert stemtube("admin", "users", "reset-password", "nobody").stderr == "stemtube: there is no user nobody\n"
    assert len(stemtube("admin", "users", "reset-password", "dora").stdout.strip()) == 16
