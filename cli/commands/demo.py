"""The demo: a separate suite for one song, with its own ports and data. Only the stems remain."""

import asyncio
import contextlib
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from filelock import FileLock, Timeout
from pydantic import SecretStr
from rich.console import Console

from cli.api import Api, ApiError
from cli.commands.process import Outcome, process
from cli.local.suite import SuiteSettings, log_file, own_environment
from cli.local.supervisor import Supervisor
from cli.options import Out
from cli.running import console, run
from services.common.config import load

if TYPE_CHECKING:
    from songs.song import DemoSong

PREFIX = "demo-"
TITLE = "Morning Light"
LOCK = "suite.lock"
LEFT_BEHIND_SECONDS = 600.0


async def run_demo(settings: SuiteSettings, song: Path | None, out: Path, console: Console) -> Outcome:
    """Starts a suite, has it process a song, and stops it.

    It uses the models of the data directory. Everything else is in a new folder beside them, which is removed at the
    end.

    Args:
        settings: for the folders of data and models.
        song: a file; None: makes a song with known chords, beats and words.
        out: where stems are saved.
        console: for people.

    Raises:
        ApiError: the song could not be processed.
        CannotStartError: the suite does not start.
    """
    if song is not None and not song.is_file():
        raise ApiError(f"there is no file {song}")
    began = time.monotonic()
    password = secrets.token_urlsafe(12)
    async with _data_folder(settings.data_dir) as folder:
        own = {"data_dir": folder, "models_dir": settings.weights_dir, "admin_password": SecretStr(password)}
        suite = settings.model_copy(update=own).at_ports(0)
        log = folder / "logs" / "suite.log"
        console.print("Starting the suite: auth, download, separation, analysis, gateway …", highlight=False)
        parts = suite.parts(own_environment())
        # This folder has no stemtube.toml, which would have settings for another suite.
        async with Supervisor(parts, folder / LOCK, log_file(log), cwd=folder), Api(suite.url) as api:
            console.print(f"Ready after {time.monotonic() - began:.1f} s at {suite.url}", highlight=False)
            await api.sign_in("admin", password)
            outcome = await (
                _process_own_song(api, out, console) if song is None else process(api, str(song), out, console)
            )
            console.print("\nStopping the suite …", highlight=False)
        if outcome.failed:
            raise ApiError(f"failed: {', '.join(outcome.failed)}")
    console.print(f"Done in {time.monotonic() - began:.0f} s.", highlight=False)
    return outcome


async def _process_own_song(api: Api, out: Path, console: Console) -> Outcome:
    from services.common import audio
    from songs.song import SAMPLE_RATE_HZ, demo_song
    from songs.truth import comparison

    console.print("Making a song …", highlight=False)
    song = await asyncio.to_thread(demo_song)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{TITLE}.flac"
        await asyncio.to_thread(audio.encode, song.mix, SAMPLE_RATE_HZ, path, "flac")
        outcome = await process(api, str(path), out, console)
    quality = await asyncio.to_thread(_quality, outcome, song)
    console.print()
    console.print(comparison(outcome.track, song.truth, quality))
    return outcome


def _quality(outcome: Outcome, song: "DemoSong") -> dict[str, tuple[float, float]]:
    """The SDR of each saved stem, and of the mix in its place, in dB."""
    from services.common import audio
    from songs.sdr import comparable, sdr

    stems = {}
    for stem, path in zip(outcome.track.get("stems", []), outcome.stems, strict=True):
        with path.open("rb") as file:
            stems[stem["name"]] = audio.decode(file, audio.NO_LIMITS) / float(stem.get("gain") or 1)
    pairs = comparable(song.stems, stems)
    return {name: (sdr(true, estimate), sdr(true, song.mix)) for name, (true, estimate) in pairs.items()}


@contextlib.asynccontextmanager
async def _data_folder(data_dir: Path) -> AsyncIterator[Path]:
    """A new folder in `data_dir`, removed afterwards; after an error its logs stay until the next demo."""
    data_dir.mkdir(parents=True, exist_ok=True)
    _remove_left_behind(data_dir)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=data_dir)).absolute()
    try:
        yield folder
    except Exception as error:
        for entry in folder.iterdir():
            if entry.name != "logs":
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        error.add_note(f"what the suite had to say is in {folder / 'logs'}")
        raise
    except BaseException:  # stopped by the user, which is not an error
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _remove_left_behind(data_dir: Path) -> None:
    """Removes the folders of demos that failed or were killed."""
    for folder in data_dir.glob(f"{PREFIX}*"):
        if time.time() - folder.stat().st_mtime < LEFT_BEHIND_SECONDS:
            continue  # this demo may be starting just now
        with contextlib.suppress(Timeout):
            with FileLock(folder / LOCK, timeout=0):
                pass
            shutil.rmtree(folder, ignore_errors=True)


def demo_command(
    song: Annotated[Path | None, typer.Argument(help="A song of yours; one is made unless given.")] = None,
    out: Out = Path("out"),
) -> None:
    """Starts a suite of its own, processes a song, prints the results, and stops the suite."""
    run(run_demo(load(SuiteSettings), song, out, console))
