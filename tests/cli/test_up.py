"""`stemtube up` and `stemtube demo` from start to end, as users run them."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from cli.api import Api
from songs.small_songs import music
from tests.common.audio_files import with_soundfile
from tests.suite.running import ROOT

T = TypeVar("T")


class Command:
    """A running `stemtube`, and the lines that it has printed."""

    def __init__(self, cwd: Path, *arguments: str) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("STEMTUBE_")}
        own = {
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "protos" / "gen"))),
            "STEMTUBE_OFFLINE": "true",
            "STEMTUBE_AUTH__BCRYPT_COST": "4",
        }
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cli", *arguments],
            cwd=cwd,
            env=clean | own,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def said(self, pattern: str, seconds: float = 40.0) -> re.Match[str]:
        """Waits for a line with a pattern, and returns the match."""
        return self.until(
            lambda: next(filter(None, (re.search(pattern, line) for line in list(self.lines))), None), pattern, seconds
        )

    def child(self, name: str) -> psutil.Process:
        """The process of a part of the suite."""

        def find() -> psutil.Process | None:
            with contextlib.suppress(psutil.NoSuchProcess):
                return next((p for p in psutil.Process(self.process.pid).children() if p.cmdline()[-1] == name), None)
            return None

        return self.until(find, name, 10.0)

    def has_other(self, name: str, pid: int) -> bool:
        """Whether a part of the suite runs in a process other than `pid`."""
        return bool(self.child(name).pid != pid)

    def until(self, find: Callable[[], T | None], what: str, seconds: float) -> T:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := find():
                return found
            time.sleep(0.05)
        raise AssertionError(f"no {what} after {seconds} s:\n" + "\n".join(self.lines[-40:]))

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self._reader.join(10)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Command]:
    command = Command(tmp_path, "up", "--port-base", "0")
    yield command
    command.end()


async def can_sign_in(url: str, name: str, password: str) -> bool:
    async with Api(url) as api:
        await api.sign_in(name, password)
        return bool((await api.get("/api/v1/me"))["user"]["admin"])


@pytest.mark.long
def test_the_suite_starts_survives_a_crash_and_stops(up: Command, tmp_path: Path) -> None:
    url = up.said(r"StemTube is at (http://127\.0\.0\.1:\d+)$")[1]
    name, password, file = up.said(r"Sign in as (\S+) with the one-time password (\S+) \(kept in (.+)\)\.").groups()
    assert name == "admin"
    assert (tmp_path / file).read_text().strip() == password
    assert asyncio.run(can_sign_in(url, name, password))

    for backoff in ("0.5", "1.0"):
        before = up.child("gateway")
        before.kill()
        up.said(rf"gateway +was ended by SIGKILL; starting it again in {backoff} s")
        up.until(partial(up.has_other, "gateway", before.pid), "other gateway", 10.0)
        deadline = time.monotonic() + 20
        while True:
            try:
                assert asyncio.run(can_sign_in(url, name, password))
                break
            except Exception:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    children = psutil.Process(up.process.pid).children(recursive=True)
    assert len(children) >= 5
    began = time.monotonic()
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(10) == 0
    assert time.monotonic() - began < 10
    _, left = psutil.wait_procs(children, timeout=1)
    # A process whose parent has died is a zombie until init reaps it, which may take a while.
    assert [process for process in left if process.status() != psutil.STATUS_ZOMBIE] == []
    assert "Stopping …" in up.lines


def test_the_demo_processes_a_song_and_leaves_only_stems(tmp_path: Path) -> None:
    with_soundfile(tmp_path / "song.flac", music(5, seed=5))
    command = Command(tmp_path, "demo", "song.flac")
    try:
        assert command.process.wait(150) == 0, "\n".join(command.lines)
    finally:
        command.end()
    text = "\n".join(command.lines)
    assert re.search(r"^Done in \d+ s\.$", text, re.MULTILINE)
    stems = sorted(path.name for path in (tmp_path / "out").rglob("*.flac"))
    assert stems == ["accompaniment.flac", "vocals.flac"]
    assert not list((tmp_path / "data").glob("demo-*"))
