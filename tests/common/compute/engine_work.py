"""Work for the tests of the engine; importable by its child process."""

import errno
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import structlog

from services.common.compute.engine import Report
from services.common.errors import InvalidInputError


class HesitantWork:
    """Work in a child that has been idle for too long and takes two seconds to notice it."""

    def __init__(self, _settings: str) -> None:
        poll = Connection.poll

        def poll_and_hesitate(connection: Connection, timeout: float | None = 0.0) -> bool:
            is_there = poll(connection, timeout)
            if timeout and not is_there:
                time.sleep(2.0)
            return is_there

        Connection.poll = poll_and_hesitate  # type: ignore[method-assign, assignment]

    def __call__(self, task: dict[str, Any], report: Report) -> dict[str, Any]:
        return {"pid": os.getpid(), **task}


class Work:
    def __init__(self, settings: str) -> None:
        self._settings = settings
        self._tasks = 0

    def __call__(self, task: dict[str, Any], report: Report) -> dict[str, Any]:
        self._tasks += 1
        return {"pid": os.getpid(), "tasks": self._tasks, **getattr(self, task["do"])(report)}

    def preparations(self, report: Report) -> Iterator[None]:
        """Three steps that each wait for a file in the folder `settings`."""
        for number in range(3):
            while not (Path(self._settings) / f"go-{number}").exists():
                time.sleep(0.01)
            (Path(self._settings) / f"done-{number}").touch()
            yield

    def broken_preparations(self, report: Report) -> Iterator[None]:
        yield
        raise RuntimeError("no such model")

    def count(self, report: Report) -> dict[str, Any]:
        for number in range(10):
            time.sleep(0.03)
            report("counting", (number + 1) / 10, number=number)
        report.keep("half", {"value": 5})
        return {"settings": self._settings}

    def say(self, report: Report) -> dict[str, Any]:
        structlog.get_logger("here").info("from the child")
        return {}

    def refuse(self, report: Report) -> dict[str, Any]:
        raise InvalidInputError("This is no audio.", "NOT_AUDIO")

    def fault(self, report: Report) -> dict[str, Any]:
        raise RuntimeError("with a secret in it")

    def full_disk(self, report: Report) -> dict[str, Any]:
        """Fails like a library that stores compiled code on the disk."""
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise RuntimeError("the code is not in the cache") from error

    def die(self, report: Report) -> dict[str, Any]:
        os.abort()

    def long(self, report: Report) -> dict[str, Any]:
        for number in range(1000):
            time.sleep(0.02)
            report("long", number / 1000)
        return {}

    def deaf(self, report: Report) -> dict[str, Any]:
        report("deaf", 0.1)
        time.sleep(60)
        return {}

    def threads(self, report: Report) -> dict[str, Any]:
        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(report.keep, str(number), str(number) * 300_000) for number in range(8)]:
                done.result()
        return {}

    def no_memory(self, report: Report) -> dict[str, Any]:
        import torch

        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    def cuda_fault(self, report: Report) -> dict[str, Any]:
        import torch

        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nCompile with …")

    def whisper_fault(self, report: Report) -> dict[str, Any]:
        raise RuntimeError("CUDA failed with error unspecified launch failure")  # an error of CTranslate2


@dataclass(frozen=True)
class Device:
    """Settings of work on a device that a test breaks and repairs.

    Attributes:
        name: of the device.
        folder: a file `NAME.gone` in it makes the device fail, `NAME.hangs` makes it hang.
    """

    name: str
    folder: Path

    def breaks(self, how: str) -> Path:
        return self.folder / f"{self.name}.{how}"


def prove(device: Device) -> str:
    if device.breaks("hangs").exists():
        time.sleep(60)
    if device.breaks("crashes").exists():
        os.abort()
    if device.breaks("gone").exists():
        raise RuntimeError("CUDA error: no CUDA-capable device is detected\nCompile with …")
    return "cuda" if device.name == "auto" else device.name


class DeviceWork(Work):
    def __init__(self, device: Device) -> None:
        super().__init__(device.name)

    def __call__(self, task: dict[str, Any], report: Report) -> dict[str, Any]:
        return {**super().__call__(task, report), "device": self._settings}
