"""A wall clock that a test sets for other processes: a small library, loaded into them, adds what a file says.

So the whole process sees it, SQLite and the job engine included, while nothing in the product knows of it.
"""

import mmap
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Self

SOURCE = Path(__file__).with_name("clock_shift.c")


def why_not() -> str:
    """Why clocks cannot be set here; empty if they can."""
    if sys.platform != "linux":
        return "libraries are loaded into other processes on Linux only"
    return "" if shutil.which("cc") else "there is no C compiler"


class Clock:
    """The clock of processes that are started with its `environment`.

    Args:
        folder: for the library and the file.

    Attributes:
        environment: variables for the processes.
    """

    def __init__(self, folder: Path) -> None:
        library, file = folder / "clock_shift.so", folder / "clock_shift"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl", "-lm"], check=True)
        file.write_bytes(bytes(struct.calcsize("d")))
        with file.open("r+b") as opened:
            self._seconds = mmap.mmap(opened.fileno(), 0)
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_SHIFT_FILE": str(file)}

    def set(self, seconds: float) -> None:
        """Sets the clock so many seconds fast, or slow."""
        self._seconds[:] = struct.pack("d", seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._seconds.close()
