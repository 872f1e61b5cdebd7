"""Digests of large files, which are computed once for each state of a file and shared by all processes."""

import hashlib
import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

MEMORY = ".digests.json"
"""The file in which digests are remembered, in the folder of models."""


class Digests:
    """Remembers the SHA-256 of files by path, size and time of change.

    Args:
        root: the folder of models. If it cannot be written, digests are computed again by each process.
    """

    _known: dict[tuple[Path, str], str] = {}  # noqa: RUF012  # of this process

    def __init__(self, root: Path) -> None:
        self._root = root
        self._memory = root / MEMORY

    def of(self, path: Path) -> str:
        """The SHA-256 of a file below the folder, in hexadecimal digits."""
        stat = path.stat()
        state = f"{path.relative_to(self._root)} {stat.st_size} {stat.st_mtime_ns}"
        if (self._root, state) not in self._known:
            remembered = self._read()
            if state not in remembered:
                with path.open("rb") as file:
                    remembered[state] = hashlib.file_digest(file, "sha256").hexdigest()
                self._write({key: digest for key, digest in remembered.items() if self._is_current(key)})
            self._known[self._root, state] = remembered[state]
        return self._known[self._root, state]

    def _read(self) -> dict[str, str]:
        with suppress(OSError, ValueError):
            content: Any = json.loads(self._memory.read_text())
            if isinstance(content, dict):
                return {str(key): str(digest) for key, digest in content.items()}
        return {}

    def _write(self, digests: dict[str, str]) -> None:
        with suppress(OSError):
            with tempfile.NamedTemporaryFile("w", dir=self._memory.parent, delete=False) as file:
                file.write(json.dumps(digests, indent=1))
            os.replace(file.name, self._memory)

    def _is_current(self, state: str) -> bool:
        """Whether the file of a remembered digest is still there."""
        return (self._root / state.rsplit(" ", 2)[0]).is_file()
