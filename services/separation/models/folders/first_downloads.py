"""Files whose publishers state no digest: the first download is recorded, and later ones must equal it."""

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.common.errors import WeightsMissingError
from services.common.weights.store import Weights
from services.separation.models.folders.digests import Digests
from services.separation.models.folders.folder import FOLDER

MEMORY = "first_downloads.json"
"""The file with the digests, in the folder of models. Operators may delete a line of it to accept another file."""


def check_first_downloads(root: Path, weights: Weights, paths: Sequence[Path]) -> None:
    """Records the digests of a model's fetched files that have no checksum, or compares them with those recorded.

    Args:
        root: the models directory.
        weights: the model's files.
        paths: where they are now.

    Raises:
        WeightsMissingError: a file is another one than at first; the message says what to do.
    """
    folder, memory = root / FOLDER, root / FOLDER / MEMORY
    known = _read(memory)
    found = {}
    for file, path in zip(weights.files, paths, strict=True):
        if file.url and not file.checksum and path.is_relative_to(folder):
            found[file.path] = Digests(folder).of(path)
            if known.get(file.path, found[file.path]) != found[file.path]:
                raise WeightsMissingError(
                    f"{path.name} of the model {weights.name} is another file than when it was first fetched. Delete "
                    f"it from {FOLDER}/{weights.name} of the models directory to fetch it again; if its author has "
                    f"published a new one that you trust, delete its line from {FOLDER}/{MEMORY} instead",
                    model=weights.name,
                    file=path.name,
                )
    if not found.keys() <= known.keys():
        _write(memory, known | found)


def _read(memory: Path) -> dict[str, str]:
    try:
        content: Any = json.loads(memory.read_text())
    except (OSError, ValueError):
        return {}
    return {str(path): str(digest) for path, digest in content.items()} if isinstance(content, dict) else {}


def _write(memory: Path, digests: dict[str, str]) -> None:
    try:
        with tempfile.NamedTemporaryFile("w", dir=memory.parent, delete=False) as file:
            file.write(json.dumps(digests, indent=1, sort_keys=True))
        os.replace(file.name, memory)
    except OSError:
        return  # a models directory that cannot be written to cannot get another download either
