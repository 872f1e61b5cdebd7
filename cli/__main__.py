"""The `stemtube` command."""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from cli.api import Api, ApiError
from cli.process import Outcome, process
from cli.supervisor import CannotStartError, Ports, Supervisor, suite_environment, suite_parts

app = typer.Typer(help="Stems, beats, key, chords, lyrics and structure of songs.", no_args_is_help=True)
models_app = typer.Typer(help="Separation models and analysis backends.", no_args_is_help=True)
app.add_typer(models_app, name="models")
console = Console()
errors = Console(stderr=True)

T = TypeVar("T")
DEFAULT_URL = "http://127.0.0.1:8080"
DATA_DIR = Path(os.environ.get("STEMTUBE_DATA_DIR", "data"))

Url = Annotated[str, typer.Option(envvar="STEMTUBE_URL", help="address of the gateway")]
User = Annotated[str, typer.Option(envvar="STEMTUBE_USER", help="who signs in")]
Password = Annotated[
    str, typer.Option(envvar="STEMTUBE_PASSWORD", help="empty: the admin's, from the data directory of this machine")
]
Out = Annotated[Path, typer.Option(help="where stems are saved")]


@app.command()
def up() -> None:
    """Runs the suite on this machine until Ctrl-C."""
    _run(_up())


@app.command("process")
def process_command(
    source: Annotated[str, typer.Argument(help="a file, or an http(s) link")],
    url: Url = DEFAULT_URL,
    user: User = "admin",
    password: Password = "",
    out: Out = Path("out"),
    stems: Annotated[bool, typer.Option(help="save the stems")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="print the full result as JSON")] = False,
) -> None:
    """Processes a song on a running suite and prints what was found."""

    async def work() -> Outcome:
        async with Api(url) as api:
            await api.sign_in(user, password or _admin_password(DATA_DIR))
            return await process(api, source, out if stems else None, console, as_json=as_json)

    if _run(work()).failed:
        raise typer.Exit(2)


@app.command()
def demo(
    song: Annotated[Path | None, typer.Argument(help="a song of your own")] = None,
    out: Out = Path("out"),
    data_dir: Annotated[Path, typer.Option(help="where the demo keeps its state")] = Path("data-demo"),
) -> None:
    """Starts a suite, processes a song (one of its own making unless given), and stops the suite."""
    if _run(_demo(song, out, data_dir)).failed:
        raise typer.Exit(2)


@models_app.command("list")
def list_models(url: Url = DEFAULT_URL, user: User = "admin", password: Password = "") -> None:
    """What can be chosen, and what is missing."""

    async def work() -> None:
        async with Api(url) as api:
            await api.sign_in(user, password or _admin_password(DATA_DIR))
            table = Table("what", "name", "here", "licence", "why not")
            for model in (await api.get("/api/v1/models"))["models"]:
                _add_row(table, "separation", model, model["license"])
            for backend in (await api.get("/api/v1/backends"))["backends"]:
                part = backend["part"].removeprefix("PART_").lower()
                _add_row(table, part, backend, backend["license"])
                for model in backend["models"]:
                    _add_row(table, part, {**model, "name": f"{backend['name']} {model['name']}"}, "")
            console.print(table)

    _run(work())


def _add_row(table: Table, what: str, choice: dict[str, Any], licence: str) -> None:
    name = choice["name"] + (" (auto)" if choice["default"] else "")
    usable = choice["availability"]
    table.add_row(what, name, "yes" if usable["available"] else "no", licence, usable["unavailableReason"])


async def _up() -> None:
    ports = Ports()
    environment = suite_environment(ports, DATA_DIR)
    first_start = not (DATA_DIR / "databases" / "auth.sqlite").exists()
    supervisor = Supervisor(suite_parts(ports), environment, DATA_DIR / "suite.lock", _print_log)
    stop = _stop_event()
    await supervisor.start()
    try:
        listen = environment["STEMTUBE_GATEWAY__LISTEN"]
        console.print(f"\nStemTube is at http://{listen}  (API documentation: http://{listen}/api/docs)", style="bold")
        if first_start:
            _print_first_sign_in(environment)
        await stop.wait()
        console.print("\nstopping …")
    finally:
        await supervisor.stop()


def _print_first_sign_in(environment: dict[str, str]) -> None:
    name = environment.get("STEMTUBE_AUTH__ADMIN_USERNAME", "admin")
    if environment.get("STEMTUBE_ADMIN_PASSWORD"):
        console.print(f"Sign in as {name} with the password from STEMTUBE_ADMIN_PASSWORD.")
    else:
        password = _admin_password(DATA_DIR)
        console.print(f"Sign in as {name} with the one-time password {password}", markup=False, highlight=False)


async def _demo(song: Path | None, out: Path, data_dir: Path) -> Outcome:
    if song is not None and not song.is_file():
        raise ApiError(f"there is no file {song}")
    ports = Ports.free()
    data_dir.mkdir(parents=True, exist_ok=True)
    logs = (data_dir / "suite.log").open("w", encoding="utf-8")

    def write_log(name: str, line: str) -> None:
        logs.write(f"{name:<10} {line}\n")
        logs.flush()

    supervisor = Supervisor(suite_parts(ports), suite_environment(ports, data_dir), data_dir / "suite.lock", write_log)
    console.print(f"starting the suite (its log: {data_dir / 'suite.log'}) …", highlight=False)
    await supervisor.start()
    try:
        async with Api(f"http://127.0.0.1:{ports.gateway}") as api:
            await api.sign_in("admin", _admin_password(data_dir))
            if song is not None:
                return await process(api, str(song), out, console)
            return await _process_own_song(api, out)
    finally:
        console.print("stopping the suite …")
        await supervisor.stop()
        logs.close()


async def _process_own_song(api: Api, out: Path) -> Outcome:
    from cli.demo_song import SAMPLE_RATE_HZ, demo_song
    from services.common import audio

    console.print("making a song …")
    song = await asyncio.to_thread(demo_song)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "Morning Light.flac"
        await asyncio.to_thread(audio.encode, song.mix, SAMPLE_RATE_HZ, path, "flac")
        outcome = await process(api, str(path), out, console)
    truth = song.truth
    console.print(
        f"Truth      {truth.tempo_bpm:.1f} BPM, {' '.join(truth.key)}, sections "
        + "  ".join(f"{start:.0f} s {label}" for start, _, label in truth.sections),
        highlight=False,
    )
    return outcome


def _admin_password(data_dir: Path) -> str:
    if password := os.environ.get("STEMTUBE_ADMIN_PASSWORD"):
        return password
    try:
        return (data_dir / "secrets" / "admin-password").read_text().strip()
    except OSError:
        raise ApiError("give a password with --password or STEMTUBE_PASSWORD") from None


COLOURS = {"auth": "magenta", "download": "cyan", "separation": "green", "analysis": "yellow", "gateway": "blue"}


def _print_log(name: str, line: str) -> None:
    console.print(f"[{COLOURS.get(name, 'white')}]{name:<10}[/]", end=" ")
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _stop_event() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except (ApiError, CannotStartError) as error:
        errors.print(f"stemtube: {error}", style="red", highlight=False, markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    app()
