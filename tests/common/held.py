"""Stops children of engines with a signal, so that their tasks neither end nor fail."""

import asyncio
import contextlib
import multiprocessing
import os
import signal
from multiprocessing.process import BaseProcess

PATIENCE_SECONDS = 120


def children(engine: str) -> list[BaseProcess]:
    """The engine's running children, oldest first."""
    found = [child for child in multiprocessing.active_children() if child.name == engine]
    return sorted(found, key=lambda child: child.pid or 0)


async def hold_children(engine: str, count: int) -> list[BaseProcess]:
    """Waits until an engine has `count` children, and stops each as soon as it runs."""
    held: list[BaseProcess] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(held) < count:
            for child in children(engine):
                if child not in held:
                    send(child, signal.SIGSTOP)
                    held.append(child)
            await asyncio.sleep(0.005)
    return held


def release(*held: BaseProcess) -> None:
    for child in held:
        send(child, signal.SIGCONT)


def send(child: BaseProcess, number: int) -> None:
    assert child.pid
    with contextlib.suppress(ProcessLookupError):
        os.kill(child.pid, number)
