"""Processes one song on a running suite and shows the progress."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cli.api import Api, ApiError, Json
from cli.options import DEFAULT_URL, Out, Password, Url, User
from cli.resumable import upload_file
from cli.running import console, run, signed_in
from cli.show import Bars, folder_name, print_summary
from services.common.parts import PARTS, part_json_name


@dataclass(frozen=True, slots=True)
class Outcome:
    """A processed song: the track, its stems' files, and the parts that failed with their messages."""

    track: Json
    stems: list[Path]
    failed: dict[str, str]


def make_options(models: Sequence[str], backends: Sequence[str], language: str) -> Json | None:
    """The processing options for the gateway; None if nothing is given, which means everything.

    Args:
        models: separation models.
        backends: PART=BACKEND or PART=BACKEND/MODEL; other parts are made with automatic choices.
        language: of the lyrics, ISO 639-1; empty to detect it.

    Raises:
        ApiError: a backend is not of that form.
    """
    if not (models or backends or language):
        return None
    choices: dict[str, Json] = {part: {"part": part_json_name(part)} for part in PARTS}
    for wish in backends:
        part, _, name = wish.partition("=")
        if part not in choices or not name:
            raise ApiError(f"{wish!r} is not PART=BACKEND or PART=BACKEND/MODEL, where PART is {', '.join(PARTS)}")
        backend, _, model = name.partition("/")
        choices[part] |= {"backend": backend, "model": model}
    choices["lyrics"] |= {"language": language}
    return {"separations": [{"model": model} for model in models or ("auto",)], "analyses": list(choices.values())}


async def process(
    api: Api, source: str, out: Path | None, console: Console, *, options: Json | None = None, as_json: bool = False
) -> Outcome:
    """Processes a file or a link, saves the stems below `out` (None: not at all) and prints the results.

    Args:
        api: signed in.
        source: path of a file, or an http(s) link.
        out: the folder in which a folder named after the title is created.
        console: for people, or with `as_json` for programs.
        options: the stems and parts to make, see `make_options`.
        as_json: print only the track as JSON, with `files`, the paths of its saved stems in the order of `stems`;
            progress goes to standard error.

    Raises:
        ApiError: the song could not be processed.
    """
    people = Console(stderr=True) if as_json else console
    with Bars(people) as bars:
        if source.startswith(("http://", "https://")):
            added = await api.add_link(source, options)
        else:
            added = await _upload(api, Path(source), bars, options)
        job = added["job"]
        async for job in api.follow(added["job"]["job"]["id"]):
            bars.show_job(job)
    failed = _failures(job)
    track = (await api.get(f"/api/v1/tracks/{job['trackId']}"))["track"]
    stems = await _save_stems(api, track, out) if out else []
    if as_json:
        console.print_json(json.dumps({**track, "files": [str(path.absolute()) for path in stems]}))
    else:
        print_summary(console, track, bars.seconds, stems)
    for name, message in failed.items():
        people.print(f"Failed     {name}: {message}", highlight=False, markup=False, style="red")
    return Outcome(track, stems, failed)


def _failures(job: Json) -> dict[str, str]:
    """The messages of the parts that did not succeed.

    Raises:
        ApiError: the job was cancelled, or there is no audio.
    """
    state = job["job"]["state"]
    if state == "JOB_STATE_CANCELLED":
        raise ApiError("the job was cancelled")
    failed = {part["name"]: part["error"]["message"] for part in job["parts"] if part.get("error")}
    if state == "JOB_STATE_FAILED" and (not failed or "acquire" in failed):
        raise ApiError(failed.get("acquire") or job["job"]["error"]["message"])
    ended = {part["name"]: part["state"] for part in job["parts"] if part["name"] not in failed}
    return failed | {name: "was not made" for name, state in ended.items() if state != "JOB_STATE_SUCCEEDED"}


async def _upload(api: Api, path: Path, bars: Bars, options: Json | None) -> Json:
    if not path.is_file():
        raise ApiError(f"there is no file {path}")
    bars.show("upload", 0.0, note="sending")
    added = await upload_file(
        api, path, lambda done: bars.show("upload", done, note="sending" if done < 1 else "checking"), options
    )
    bars.show("upload", 1.0, "succeeded")
    return added


async def _save_stems(api: Api, track: Json, out: Path) -> list[Path]:
    models = {stem["model"] for stem in track.get("stems", [])}
    saved = []
    for stem in track.get("stems", []):
        folder = out / folder_name(track["title"])
        if len(models) > 1:
            folder /= folder_name(stem["model"])
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ApiError(f"{folder} cannot be made: {error.strerror}") from None
        path = folder / f"{folder_name(stem['name'])}.flac"
        await api.download(stem["audio"], path)
        saved.append(path)
    return saved


def process_command(
    source: Annotated[str, typer.Argument(help="A file, or an http(s) link.")],
    url: Url = DEFAULT_URL,
    user: User = "",
    password: Password = "",
    out: Out = Path("out"),
    stems: Annotated[bool, typer.Option(help="Save the stems.")] = True,
    model: Annotated[list[str] | None, typer.Option(help="Separation model; can be given several times.")] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(help="PART=BACKEND or PART=BACKEND/MODEL, with a name that `stemtube models list` shows."),
    ] = None,
    language: Annotated[str, typer.Option(help="Of the lyrics, such as en; detected unless given.")] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the full result as JSON, with the saved stems as files.")
    ] = False,
) -> None:
    """Processes a song on a running suite and prints the results."""

    async def work(api: Api) -> bool:
        options = make_options(model or (), backend or (), language)
        outcome = await process(api, source, out if stems else None, console, options=options, as_json=as_json)
        return bool(outcome.failed)

    if run(signed_in(url, user, password, work)):
        raise typer.Exit(1)
