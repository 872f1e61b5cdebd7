"""Saves a track as a file for another program."""

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote, urlencode

from cli.api import Api, ApiError

ID = re.compile(r"[0-9a-f]{32}")
MATCHES_SHOWN = 10


async def export(api: Api, track: str, file_format: str, options: Sequence[str], out: Path) -> Path:
    """Saves an export in a folder, which is made if need be; returns the file, named after the song.

    Args:
        api: signed in.
        track: its id, or words of its title and artist that only this track has.
        file_format: as the gateway names it.
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
