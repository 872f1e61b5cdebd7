"""Reads the names and shapes of the tensors in a checkpoint without loading torch, and without running its code.

A `.ckpt` file is a pickle. Here it is read by an unpickler that knows only tensors and plain containers, the same that
`torch.load(weights_only=True)` accepts. A `.safetensors` file says the shapes in its header.
"""

import json
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from services.separation.models.folders.faults import FolderError

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

MAX_HEADER = 100 << 20
LEGACY_PICKLES = 3
"""Pickles before the tensors in the format of torch before 1.6: a magic number, a version, the machine."""
NESTED = ("state", "state_dict", "model_state_dict")
"""Keys below which training programs put the tensors of the network."""
ITEM_BYTES = {"Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1}


@dataclass(frozen=True, slots=True)
class _Storage:
    """A storage of a checkpoint: the name of its bytes in the archive, and how many there must be."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    """What is known of a tensor without its numbers."""

    shape: Shape
    storage: _Storage | None


class _CodeError(Exception):
    """The pickle names something other than tensors and containers."""


def read_shapes(path: Path) -> Shapes:
    """The shapes of a network's tensors by name.

    Args:
        path: a `.ckpt` or `.safetensors` file.

    Raises:
        FolderError: it is damaged, has no tensors, or cannot be read without running code in it.
    """
    return _safetensors(path) if path.suffix == ".safetensors" else _checkpoint(path)


def network_of(content: Any) -> dict[str, Any]:
    """The network's tensors by name in the content of a checkpoint, as this module or torch has read it.

    Training programs put them below a key, and prefix them with `module.` if several GPUs were used.
    """
    for key in NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        return {}
    tensors = {str(name): value for name, value in content.items() if hasattr(value, "shape")}
    if tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


def _checkpoint(path: Path) -> Shapes:
    try:
        if zipfile.is_zipfile(path):
            content = _zipped(path)
        else:
            with path.open("rb") as file:
                content = _legacy(file)
    except _CodeError as error:
        raise FolderError(
            f"{path.name} contains {error}: reading it would run code in it, which is never done. Load it where you "
            "trust it, and save its tensors as .safetensors"
        ) from error
    except FolderError:
        raise
    except Exception as error:  # a damaged pickle can raise anything; no code in it is run
        raise FolderError(f"{path.name} is damaged, or not a checkpoint of torch") from error
    tensors = {name: tensor.shape for name, tensor in network_of(content).items()}
    if not tensors:
        raise FolderError(f"{path.name} has no tensors")
    return tensors


def _zipped(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        (member,) = [name for name in sizes if name.endswith("data.pkl")]
        with archive.open(member) as stream:
            content = _Unpickler(stream).load()
    folder = member.removesuffix("data.pkl")
    for name, tensor in network_of(content).items():
        storage = tensor.storage
        if storage and sizes.get(f"{folder}data/{storage.name}", -1) < storage.size:
            raise FolderError(f"{path.name} is damaged: the numbers of {name} are missing; fetch it again")
    return content


def _legacy(file: BinaryIO) -> Any:
    for _ in range(LEGACY_PICKLES):
        _Unpickler(file).load()
    return _Unpickler(file).load()


def _rebuild_tensor(storage: Any, _offset: int, shape: Any, *_rest: Any) -> _Tensor:
    return _Tensor(tuple(int(size) for size in shape), storage if isinstance(storage, _Storage) else None)


def _rebuild_parameter(tensor: Any, *_rest: Any) -> Any:
    return tensor


class _Unpickler(pickle.Unpickler):
    """Builds tensors without numbers, and plain containers."""

    KNOWN: dict[tuple[str, str], Callable[..., Any]] = {  # noqa: RUF012
        ("collections", "OrderedDict"): OrderedDict,
        ("torch", "Size"): tuple,
        ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
        ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
        ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    }

    def find_class(self, module: str, name: str) -> Any:
        if module in ("torch", "torch.storage") and name.endswith("Storage"):
            return name.removesuffix("Storage")
        if (module, name) not in self.KNOWN:
            raise _CodeError(f"{module}.{name}")
        return self.KNOWN[module, name]

    def persistent_load(self, pid: Any) -> Any:
        _, kind, name, _, count, *_ = pid
        return _Storage(str(name), int(count) * ITEM_BYTES.get(str(kind), 1))


def _safetensors(path: Path) -> Shapes:
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > MAX_HEADER:
                raise ValueError("the header is too long")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        tensors = {name: tuple(int(size) for size in entry["shape"]) for name, entry in header.items()}
        end = max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
    except (struct.error, ValueError, LookupError, TypeError, AttributeError) as error:
        raise FolderError(f"{path.name} is damaged, or not a safetensors file") from error
    if path.stat().st_size != 8 + length + end:
        raise FolderError(f"{path.name} is damaged: it does not have the length that it states; fetch it again")
    if not tensors:
        raise FolderError(f"{path.name} has no tensors")
    return tensors
