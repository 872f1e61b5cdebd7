"""Saves a track as a file for another program."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated
from urllib.parse import quote, urlencode

import typer

from cli.api import Api, ApiError
from cli.options import DEFAULT_URL, Password, Url, User
from cli.running import console, run, signed_in

ID = re.compile(r"[0-9a-f]{32}")
MATCHES_SHOWN = 10


async def export(api: Api, track: str, file_format: str, options: Sequence[str], out: Path) -> Path:
    """Saves an export in a folder, which is created if necessary; returns the file, named after the song.

    Args:
        api: signed in.
        track: its id, or words of its title and artist that identify it.
        file_format: the gateway's name of the format.
        options: of the format, each NAME=VALUE.
        out: the folder.

    Raises:
        ApiError: no such track or format, several tracks, or the suite refuses.
    """
    pairs = [option.partition("=")[::2] for option in options]
    if wrong := [option for option, (_, value) in zip(options, pairs, strict=True) if not value]:
        raise ApiError(f"{wrong[0]!r} is not NAME=VALUE")
    track_id = track if ID.fullmatch(track) else await _found(api, track)
    path = f"/api/v1/tracks/{track_id}/exports/{quote(file_format, safe='')}"
    return await api.save(path + (f"?{urlencode(pairs)}" if pairs else ""), out)


async def _found(api: Api, words: str) -> str:
    query = urlencode({"query": words, "pageSize": MATCHES_SHOWN})
    tracks = (await api.get(f"/api/v1/tracks?{query}"))["tracks"]
    if len(tracks) == 1:
        return str(tracks[0]["id"])
    if not tracks:
        raise ApiError(f"there is no track {words!r} in the library")
    names = "; ".join(f"{track['title']} ({track['id']})" for track in tracks)
    raise ApiError(f"which one is {words!r}? {names}")


def export_command(
    track: Annotated[str, typer.Argument(help="A track's id, or words of its title and artist.")],
    file_format: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT", help="lrc, srt, chordpro, midi, stems, mixdown, stem.mp4 …; /api/docs has all."
        ),
    ],
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="NAME=VALUE, such as stems=vocals:-3,drums.")
    ] = None,
    url: Url = DEFAULT_URL,
    user: User = "",
    password: Password = "",
    out: Annotated[Path, typer.Option(help="The folder to save it in.")] = Path(),
) -> None:
    """Saves a track as a file for another program: lyrics, chords, MIDI, mixes, stems."""

    async def work(api: Api) -> None:
        saved = await export(api, track, file_format, option or (), out)
        console.print(str(saved), markup=False, highlight=False, soft_wrap=True)

    run(signed_in(url, user, password, work))
