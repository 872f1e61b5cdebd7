"""Work for the tests of the engine; importable by its child process."""

import os
import time
from typing import Any

from services.common.engine import Report
from services.common.errors import InvalidInputError


class Work:
    def __init__(self, settings: str) -> None:
        self._settings = settings
        self._tasks = 0

    def __call__(self, task: dict[str, Any], report: Report) -> dict[str, Any]:
        self._tasks += 1
        return {"pid": os.getpid(), "tasks": self._tasks, **getattr(self, task["do"])(report)}

    def count(self, report: Report) -> dict[str, Any]:
        for number in range(10):
            time.sleep(0.03)
            report("counting", (number + 1) / 10, number=number)
        report.keep("half", {"value": 5})
        return {"settings": self._settings}

    def refuse(self, report: Report) -> dict[str, Any]:
        raise InvalidInputError("This is no audio.", "NOT_AUDIO")

    def fault(self, report: Report) -> dict[str, Any]:
        raise RuntimeError("with a secret in it")

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
