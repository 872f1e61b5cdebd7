"""Calls in threads of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

from services.common.compute.threads import in_daemon_thread

ROOT = Path(__file__).parents[3]
HANGING = """
import asyncio, time
from services.common.compute.threads import in_daemon_thread
async def main():
    try:
        async with asyncio.timeout(0.1):
            await in_daemon_thread(time.sleep, 600)
    except TimeoutError:
        print("gave up")
asyncio.run(main())
"""


async def test_a_call_gives_its_result_or_its_error() -> None:
    assert await in_daemon_thread(int, "12") == 12
    with pytest.raises(ValueError, match="twelve"):
        await in_daemon_thread(int, "twelve")


def test_a_process_ends_while_a_call_hangs() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", HANGING], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert (ended.stdout, ended.stderr) == ("gave up\n", "")
