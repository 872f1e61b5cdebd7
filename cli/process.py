"""Processes one song on a running suite and shows what happens."""

import json
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from cli.api import Api, ApiError, Json
from cli.show import Bars, folder_name, summary


@dataclass(frozen=True)
class Outcome:
    """A processed song: the track, its stems' files, and the parts that failed with their messages."""

    track: Json
    stems: list[Path]
    failed: dict[str, str]


async def process(api: Api, source: str, out: Path | None, console: Console, *, as_json: bool = False) -> Outcome:
    """Processes a file or a link, saves the stems below `out` (None: not at all) and prints what was found.

    Raises:
        ApiError: it could not be processed at all.
    """
    bars = Bars(Console(stderr=True) if as_json else console)
    with bars:
        if source.startswith(("http://", "https://")):
            added = await api.add_link(source)
        else:
            added = await _upload(api, Path(source), bars)
        job = added["job"]
        async for job in api.follow(added["job"]["job"]["id"]):
            bars.show_job(job)
    state = job["job"]["state"]
    if state == "JOB_STATE_CANCELLED":
        raise ApiError("the job was cancelled")
    failed = {part["name"]: part["error"]["message"] for part in job["parts"] if part.get("error")}
    if state == "JOB_STATE_FAILED" and ("acquire" in failed or not failed):
        raise ApiError(job["job"]["error"]["message"])
    track = (await api.get(f"/api/v1/tracks/{job['trackId']}"))["track"]
    stems = await _save_stems(api, track, out) if out else []
    if as_json:
        console.print_json(json.dumps(track))
    else:
        console.print("\n" + summary(track, bars.seconds, stems), highlight=False, markup=False)
    for name, message in failed.items():
        console.print(f"Failed     {name}: {message}", highlight=False, markup=False, style="red")
    return Outcome(track, stems, failed)


async def _upload(api: Api, path: Path, bars: Bars) -> Json:
    if not path.is_file():
        raise ApiError(f"there is no file {path}")
    began = time.monotonic()
    bars.show("upload", 0.0)
    added = await api.upload(path, lambda done: bars.show("upload", done, note="sending" if done < 1 else "checking"))
    bars.show("upload", 1.0, "succeeded", f"{time.monotonic() - began:.1f} s")
    return added


async def _save_stems(api: Api, track: Json, out: Path) -> list[Path]:
    models = {stem["model"] for stem in track.get("stems", [])}
    saved = []
    for stem in track.get("stems", []):
        folder = out / folder_name(track["title"])
        if len(models) > 1:
            folder /= folder_name(stem["model"])
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{folder_name(stem['name'])}.flac"
        await api.download(stem["audio"], path)
        saved.append(path)
    return saved
