"""Songs with their truth: those that the project makes, and those in a folder beside it."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from services.common import audio
from songs import collection
from songs.recipes import Recipe
from songs.rendering import SAMPLE_RATE_HZ, render

SOURCES = Path(collection.__file__).parent
MADE_BY = (
    "acoustic", "band", "composing", "forms", "four_parts", "harmony", "players", "recipes", "rendering", "score",
    "styles",
)  # fmt: skip

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Song:
    """A reference song: its name, its audio, the truth in its file, and the kind in whose row it counts."""

    name: str
    file: Path
    truth: dict[str, Any]
    kind: str


def songs_in(folder: Path) -> list[Song]:
    """The songs of a folder: folders of folders, each with a `truth.json` and a file `mix` or `audio`."""
    found = []
    for path in sorted(folder.glob("*/*/truth.json")):
        files = [file for name in ("mix", "audio") for file in path.parent.glob(f"{name}.*")]
        if files:
            name = path.parent.name
            found.append(Song(name, files[0], json.loads(path.read_text()), name))
    return found


def made_songs(recipes: Iterable[Recipe], folder: Path, jobs: int, progress: Progress) -> list[Song]:
    """The songs of recipes, as FLAC files in a folder; `jobs` processes make those that are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    version = hashlib.sha256(b"".join((SOURCES / f"{name}.py").read_bytes() for name in MADE_BY))
    places = {recipe: folder / _file_name(recipe, version.hexdigest()) for recipe in recipes}
    missing = [recipe for recipe, place in places.items() if not _truth_file(place).exists()]
    if missing:
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            waiting = {pool.submit(_make, recipe, places[recipe]): recipe for recipe in missing}
            for done, future in enumerate(as_completed(waiting), 1):
                future.result()
                progress(done, len(missing), f"made {waiting[future].name}")
    return [
        Song(recipe.name, place, json.loads(_truth_file(place).read_text()), recipe.kind)
        for recipe, place in places.items()
    ]


def _file_name(recipe: Recipe, version: str) -> str:
    digest = hashlib.sha256(f"{version} {recipe}".encode()).hexdigest()[:12]
    return f"{re.sub(r'[^a-z0-9]+', '-', recipe.name.lower())}-{digest}.flac"


def _truth_file(place: Path) -> Path:
    return place.with_suffix(".json")


def _make(recipe: Recipe, place: Path) -> None:
    song = render(recipe)
    audio.encode(song.mix, SAMPLE_RATE_HZ, place, "flac", bits=16)
    # The truth comes last and at once: a song with its truth is whole.
    draft = place.with_suffix(".draft")
    draft.write_text(json.dumps(song.truth.entries()))
    draft.replace(_truth_file(place))
