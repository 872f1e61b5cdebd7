"""The counts of a fuzzing run, and the inputs that broke something."""

import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Kind = Literal["crashes", "5xx", "hangs"]
KINDS: tuple[Kind, ...] = ("crashes", "5xx", "hangs")


@dataclass
class Tally:
    """Counts inputs and what they broke.

    Attributes:
        folder: where each input that broke something is saved, with what happened.
        inputs: the number of inputs.
        counts: by kind. `crashes`: a process died, or raised an error that is not one of our domain. `5xx`: a server
            answered with an internal error, or not as described. `hangs`: there was no answer in time.
        found: one line for each.
    """

    folder: Path
    inputs: int = 0
    counts: Counter[Kind] = field(default_factory=Counter)
    found: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, kind: Kind, what: str, content: bytes, more: str = "") -> None:
        """Counts a finding and saves its input; thread-safe.

        Args:
            kind: a key of `counts`.
            what: one line for a person.
            content: the input.
            more: an answer, or the end of a log.
        """
        with self._lock:
            self.counts[kind] += 1
            name = f"{len(self.found) + 1:04}-{re.sub(r'[^A-Za-z0-9.]+', '-', what)[:80]}"
            self.found.append(f"{kind}: {what} ({name})")
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_bytes(content)
        (self.folder / f"{name}.txt").write_text(f"{kind}: {what}\n\n{more}\n")

    def __str__(self) -> str:
        return " ".join((f"inputs={self.inputs}", *(f"{kind}={self.counts[kind]}" for kind in KINDS)))
