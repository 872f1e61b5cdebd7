"""Models that operators put into `MODELS_DIR/separation/NAME/`: a configuration and a checkpoint, as published.

The family of a model is found by its content: each family's `entries` module may have a function
`describe(folder)`, which returns a `Description` if the configuration and the tensors are of its kind, else None.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from services.common.weights.store import WeightFile, Weights
from services.separation.models.base import ModelEntry
from services.separation.models.folders.config import read_config
from services.separation.models.folders.digests import Digests
from services.separation.models.folders.faults import FolderError
from services.separation.models.folders.shapes import Shapes, read_shapes

FOLDER = "separation"
"""The folder of models, in the models directory."""
CONFIGS = (".yaml", ".yml")
CHECKPOINTS = (".ckpt", ".safetensors", ".onnx")
LICENCE = "your own model: see where it comes from"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
SAMPLE_RATE_HZ = 44_100


@dataclass(frozen=True)
class ModelFolder:
    """The content of a model's folder.

    Args:
        path: the folder.
        config_file: the configuration; None if there is none, which only a family of `.onnx` files may accept.
        checkpoint: the file with the weights.
    """

    path: Path
    config_file: Path | None
    checkpoint: Path

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The sections of the configuration; empty if there is none.

        Raises:
            FolderError: it cannot be read.
        """
        return read_config(self.config_file) if self.config_file else {}

    @cached_property
    def shapes(self) -> Shapes:
        """The shapes of the checkpoint's tensors by name; empty for `.onnx`.

        Raises:
            FolderError: the checkpoint is damaged, or cannot be read without running code in it.
        """
        return {} if self.checkpoint.suffix == ".onnx" else read_shapes(self.checkpoint)

    def section(self, name: str) -> Mapping[str, Any]:
        """A section of the configuration; empty if it has none.

        Raises:
            FolderError: the configuration cannot be read, or the section is not a section.
        """
        section = self.config.get(name) or {}
        if not isinstance(section, Mapping):
            raise FolderError(f"{self.config_name}: `{name}` is not a section")
        return section

    @property
    def config_name(self) -> str:
        """The name of the configuration's file, for messages."""
        return self.config_file.name if self.config_file else "config.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a family knows of a model in a folder without loading it; see `ModelEntry` for the meanings.

    Args:
        family: the folder of the family.
        version: of the family's code: it changes whenever the same files may give other stems.
        overlap: the overlap that the configuration recommends, as a fraction of a segment; None if it says nothing.
    """

    family: str
    stems: tuple[str, ...]
    sample_rate_hz: int = SAMPLE_RATE_HZ
    version: str
    cost: float
    overlap: float | None = None


Describe = Callable[[ModelFolder], Description | None]


@dataclass(frozen=True)
class FolderModels:
    """The models in the folders of a models directory.

    Args:
        root: the models directory.
        families: the `describe` functions of all families.
    """

    root: Path
    families: Sequence[Describe]

    _known: ClassVar[dict[tuple[Any, ...], ModelEntry]] = {}
    """The entries that this process has made, by folder and state of its files: reading a checkpoint takes a while."""

    def entries(self, published: Mapping[str, ModelEntry]) -> Iterator[ModelEntry]:
        """The entries of all models, in the order of their names. A model that cannot be used has a `fault`.

        Args:
            published: entries whose weights are fetched into such folders; these folders are left out.
        """
        folder = self.root / FOLDER
        if not folder.is_dir():
            return
        for path in sorted(folder.iterdir()):
            if path.is_dir() and not path.name.startswith(".") and path.name not in published:
                state = (path, tuple(self.families), _state(path))
                if state not in self._known:
                    self._known[state] = self._entry(path)
                yield self._known[state]

    def _entry(self, path: Path) -> ModelEntry:
        try:
            folder = find_files(path)
            description = self._describe(folder)
        except FolderError as fault:
            return _faulty(path, str(fault))
        except OSError as error:
            return _faulty(path, f"a file cannot be read: {error.strerror}")
        files = [file for file in (folder.config_file, folder.checkpoint) if file]
        digests = Digests(self.root / FOLDER)
        marks = "-".join(digests.of(file)[:12] for file in files)
        return ModelEntry(
            name=path.name,
            family=description.family,
            stems=description.stems,
            sample_rate_hz=description.sample_rate_hz,
            licence=LICENCE,
            version=f"{description.version}; {marks}",
            cost=description.cost,
            overlap=description.overlap,
            weights=Weights(path.name, tuple(WeightFile(f"{FOLDER}/{path.name}/{file.name}") for file in files)),
        )

    def _describe(self, folder: ModelFolder) -> Description:
        for describe in self.families:
            if description := describe(folder):
                return description
        keys = ", ".join(sorted(str(key) for key in folder.section("model"))) or "none"
        raise FolderError(
            f"no family of models recognises {folder.config_name} and {folder.checkpoint.name} "
            f"(keys of `model`: {keys})"
        )


def find_files(path: Path) -> ModelFolder:
    """Finds the files of a model.

    Args:
        path: its folder.

    Raises:
        FolderError: it does not have exactly one configuration and one checkpoint, or its name cannot be used.
    """
    if not NAME.fullmatch(path.name):
        raise FolderError("the folder's name may have letters, digits, dots, hyphens and underscores; rename it")
    files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    configs = [file for file in files if file.suffix in CONFIGS]
    checkpoints = [file for file in files if file.suffix in CHECKPOINTS]
    kinds = ", ".join(f"*{suffix}" for suffix in CHECKPOINTS)
    if not checkpoints:
        raise FolderError(f"there is no checkpoint: put one of {kinds} beside the configuration")
    if len(checkpoints) > 1:
        names = ", ".join(file.name for file in checkpoints)
        raise FolderError(f"there are {len(checkpoints)} checkpoints ({names}): keep one, or give each a folder")
    if len(configs) > 1:
        names = ", ".join(file.name for file in configs)
        raise FolderError(f"there are {len(configs)} configurations ({names}): keep the one of {checkpoints[0].name}")
    if not configs and checkpoints[0].suffix != ".onnx":
        raise FolderError(f"there is no configuration: put the config.yaml of {checkpoints[0].name} beside it")
    return ModelFolder(path, configs[0] if configs else None, checkpoints[0])


def _state(path: Path) -> tuple[tuple[str, int, int], ...]:
    """What changes when a file of a folder changes: names, sizes and times."""
    files = []
    with suppress(OSError):
        for file in sorted(path.iterdir()):
            stat = file.stat()
            files.append((file.name, stat.st_size, stat.st_mtime_ns))
    return tuple(files)


def _faulty(path: Path, fault: str) -> ModelEntry:
    return ModelEntry(
        name=path.name,
        family="",
        stems=(),
        sample_rate_hz=SAMPLE_RATE_HZ,
        licence=LICENCE,
        version="",
        cost=1.0,
        fault=f"{FOLDER}/{path.name} of the models directory: {fault}",
    )
