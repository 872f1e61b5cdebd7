"""Adds many songs to the library: folders, files, links."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from cli.api import Api, ApiError, AwayError, Json
from cli.commands.process import make_options
from cli.options import DEFAULT_URL, Password, Url, User
from cli.resumable import upload_file
from cli.running import console, run, signed_in
from services.common import audio
from services.common.errors import StemTubeError

SIGNED_OUT, FORBIDDEN = 401, 403


@dataclass(slots=True)
class Added:
    """The numbers of songs that were added, of files that are not songs, and of refused songs."""

    added: int = 0
    skipped: int = 0
    failed: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether there were songs and all were added."""
        return self.added > 0 and not self.failed


async def add(api: Api, sources: Sequence[str], console: Console, options: Json | None = None) -> Added:
    """Adds the songs of these folders, files and links, and prints the outcome of each.

    Args:
        api: signed in.
        sources: paths and links; a folder stands for all files with audio in it, except hidden ones.
        console: for people.
        options: the stems and parts to make, see `make_options`.

    Raises:
        ApiError: there is no such file or folder, or the suite is away.
    """
    found = [song for source in sources for song in _songs(source)]
    if len(found) > 1:
        # With batch priority, a single song that another user adds meanwhile goes first.
        options = {**(options or {}), "priority": "PRIORITY_BATCH"}
    summary = Added()

    def print_outcome(word: str, song: Path | str, why: str = "") -> None:
        detail = f": {why}" if why else ""
        console.print(f"{word:<8} {song}{detail}", highlight=False, markup=False, soft_wrap=True)

    for number, song in enumerate(found, start=1):
        if isinstance(song, Path) and (why := await asyncio.to_thread(_why_no_song, song)):
            summary.skipped += 1
            print_outcome("skipped", song, why)
            continue
        try:
            await _add(api, song, console, f"{number} of {len(found)}", options)
        except AwayError:
            raise
        except ApiError as error:
            if error.status in (SIGNED_OUT, FORBIDDEN):
                raise
            summary.failed += 1
            print_outcome("failed", song, str(error))
        else:
            summary.added += 1
            print_outcome("added", song)
    console.print(
        f"{summary.added} added, {summary.skipped} skipped, {summary.failed} failed", highlight=False, markup=False
    )
    return summary


async def _add(api: Api, song: Path | str, console: Console, place: str, options: Json | None) -> None:
    if isinstance(song, str):
        await api.add_link(song, options)
        return
    with console.status("") as status:

        def show(done: float) -> None:
            doing = f"{done * 100:.0f} %" if done < 1 else "checking"
            status.update(escape(f"{place}: {song.name} {doing}"))

        show(0.0)
        await upload_file(api, song, show, options)


def _songs(source: str) -> Iterator[Path | str]:
    if source.startswith(("http://", "https://")):
        yield source
        return
    path = Path(source)
    if path.is_dir():
        below = (file for file in sorted(path.rglob("*")) if file.is_file())
        yield from (file for file in below if not any(part.startswith(".") for part in file.relative_to(path).parts))
    elif path.is_file():
        yield path
    else:
        raise ApiError(f"there is no file or folder {path}")


def _why_no_song(path: Path) -> str:
    """Why a file is not sent; empty if it contains audio according to its header."""
    try:
        audio.probe(path, audio.NO_LIMITS)
    except StemTubeError as error:
        return error.message
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return ""


def add_command(
    sources: Annotated[list[str], typer.Argument(help="Folders, files and http(s) links.")],
    url: Url = DEFAULT_URL,
    user: User = "",
    password: Password = "",
    model: Annotated[list[str] | None, typer.Option(help="As for process.")] = None,
    backend: Annotated[list[str] | None, typer.Option(help="As for process.")] = None,
    language: Annotated[str, typer.Option(help="Of the lyrics, such as en; detected unless given.")] = "",
) -> None:
    """Adds songs to the library of a running suite; a folder adds all songs below it. Ends with 1 if any failed."""

    async def work(api: Api) -> Added:
        return await add(api, sources, console, make_options(model or (), backend or (), language))

    if not run(signed_in(url, user, password, work)).is_complete:
        raise typer.Exit(1)
