"""Catalogues of published models: files of facts (`catalogue.toml`), from which models are fetched by name.

One comes with this package. Operators may add another in `MODELS_DIR/separation`. The files of a model are fetched into
`MODELS_DIR/separation/NAME`, where models that operators drop in lie as well.
"""

import hashlib
import importlib
import importlib.util
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from services.common.weights.store import WeightFile, Weights
from services.separation import models
from services.separation.models.base import ModelEntry
from services.separation.models.folders.folder import CHECKPOINTS, CONFIGS, FOLDER, NAME, SAMPLE_RATE_HZ

FILE = "catalogue.toml"
TEXTS = ("name", "family", "purpose", "author", "licence", "licence_source", "sdr", "sdr_source")
FREE_LICENCES = (
    "MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0", "GPL-3.0",
)  # fmt: skip
"""Licences that allow any use, also a commercial one; `auto` takes models with one of these."""


class CatalogueError(Exception):
    """A catalogue cannot be read; the message says what is wrong."""


@cache
def published() -> tuple[ModelEntry, ...]:
    """The models of this package's catalogue."""
    return tuple(read_catalogue(Path(models.__path__[0]) / FILE))


def own_catalogue(root: Path, taken: Mapping[str, ModelEntry]) -> Iterator[ModelEntry]:
    """The models of an operator's catalogue; an entry with a `fault` if it cannot be read.

    Args:
        root: the models directory.
        taken: names that it cannot use.
    """
    path = root / FOLDER / FILE
    if not path.is_file():
        return
    try:
        entries = list(read_catalogue(path))
        if both := sorted(entry.name for entry in entries if entry.name in taken):
            raise CatalogueError(f"{', '.join(both)}: there are models of this name already; choose others")
        yield from entries
    except (CatalogueError, OSError) as error:
        yield ModelEntry(
            name=FILE,
            family="",
            stems=(),
            sample_rate_hz=SAMPLE_RATE_HZ,
            licence="",
            version="",
            cost=1.0,
            fault=f"{FOLDER}/{FILE} of the models directory cannot be read: {error}",
        )


def read_catalogue(path: Path) -> Iterator[ModelEntry]:
    """Reads a catalogue.

    Raises:
        CatalogueError: it is not valid; the message names the model and the value.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CatalogueError(f"it is not valid TOML: {error}") from error
    listed = content.pop("model", None)
    if not isinstance(listed, list) or content:
        raise CatalogueError("it must be a list of [[model]] and nothing else")
    names: set[str] = set()
    for number, facts in enumerate(listed, 1):
        entry = _entry(facts, number)
        if entry.name in names:
            raise CatalogueError(f"{entry.name} is listed twice")
        names.add(entry.name)
        yield entry


def _entry(facts: Any, number: int) -> ModelEntry:
    label = f"model {number}"
    if not isinstance(facts, dict):
        raise CatalogueError(f"{label} must be a table")
    known = {*TEXTS, "stems", "cost", "overlap", "file"}
    if unknown := sorted(set(facts) - known):
        raise CatalogueError(f"{label} has unknown keys: {', '.join(unknown)}")
    if missing := sorted(known - set(facts) - {"overlap"}):
        raise CatalogueError(f"{label} has no {', '.join(missing)}")
    for key in TEXTS:
        if not isinstance(facts[key], str):
            raise CatalogueError(f"{label}: {key} must be a text")
    name, stems, overlap = facts["name"], facts["stems"], facts.get("overlap")
    if not NAME.fullmatch(name):
        raise CatalogueError(f"{label}: the name {name!r} may have letters, digits, dots, hyphens and underscores")
    if not isinstance(stems, list) or not stems or not all(isinstance(stem, str) and stem for stem in stems):
        raise CatalogueError(f"{name}: stems must be a list of names")
    if not _is_number(facts["cost"]) or facts["cost"] <= 0:
        raise CatalogueError(f"{name}: cost must be a number above 0")
    if overlap is not None and not (_is_number(overlap) and 0 <= overlap < 1):
        raise CatalogueError(f"{name}: overlap must be a number from 0 to 1, without 1")
    files = _files(name, facts["file"])
    return ModelEntry(
        name=name,
        family=facts["family"],
        stems=tuple(stems),
        sample_rate_hz=SAMPLE_RATE_HZ,
        licence=f"{facts['licence']} ({facts['author']}; {facts['licence_source']})",
        restriction="" if facts["licence"] in FREE_LICENCES else facts["licence"],
        version=f"{_version(facts['family'])}; {'-'.join(_mark(file) for file in files)}",
        cost=float(facts["cost"]),
        overlap=overlap,
        weights=Weights(name, files),
        fault="" if _version(facts["family"]) else f"there is no family of models {facts['family']!r} here",
    )


def _files(name: str, listed: Any) -> tuple[WeightFile, ...]:
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise CatalogueError(f"{name}: the files must be a list of [[model.file]]")
    files = []
    for facts in listed:
        if unknown := sorted(set(facts) - {"url", "sha256", "size"}):
            raise CatalogueError(f"{name}: a file has unknown keys: {', '.join(unknown)}")
        url, digest = facts.get("url"), facts.get("sha256")
        file_name = PurePosixPath(urlsplit(url).path).name if isinstance(url, str) else ""
        if not isinstance(url, str) or urlsplit(url).scheme not in ("http", "https") or not NAME.fullmatch(file_name):
            raise CatalogueError(f"{name}: {url!r} is not the address of a file")
        try:
            checksum = f"sha256:{digest}" if digest is not None else None
            files.append(WeightFile(f"{FOLDER}/{name}/{file_name}", url, checksum))
        except ValueError as error:
            raise CatalogueError(f"{name}: {error}") from error
    suffixes = [PurePosixPath(file.path).suffix for file in files]
    if not (suffixes and suffixes[-1] in CHECKPOINTS and all(suffix in CONFIGS for suffix in suffixes[:-1])):
        raise CatalogueError(f"{name}: its files must be a configuration (*.yaml), then a checkpoint")
    return tuple(files)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _mark(file: WeightFile) -> str:
    """What identifies a file in a version: its digest, as of dropped-in files, else its address."""
    if file.checksum:
        return file.checksum.removeprefix("sha256:")[:12]
    return "url" + hashlib.sha256((file.url or "").encode()).hexdigest()[:9]


@cache
def _version(family: str) -> str:
    """The version of a family's code; empty if there is no such family."""
    module = f"{models.__name__}.{family}.entries"
    if not family.isidentifier() or importlib.util.find_spec(f"{models.__name__}.{family}") is None:
        return ""
    return str(getattr(importlib.import_module(module), "VERSION", ""))
