"""Measures the cost of an upload's bytes: `python -m bench.uploads [--megabytes 100] [--rounds 3]`.

A file goes through gateway and library into a directory, in one request and by tus in pieces of 4 MiB like those of the
page. Each is compared with writing the same bytes directly to the same disk, alternately. The figures of a song include
its check, which decodes all of it. Noise is refused before anything is decoded, and shows the cost of the bytes alone.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import numpy as np

from services.common import audio
from tests.suite.client import Client
from tests.suite.running import PASSWORD, Suite

PIECE_BYTES = 4 * 1024 * 1024
BLOCK_BYTES = 1024 * 1024
RATE = 44_100
SERVERS = ("download", "gateway")


@dataclass
class Cost:
    """The cost of an upload: seconds, CPU seconds of gateway and library with children, bytes the library wrote."""

    seconds: float
    cpu: float
    written: int


def write_song(path: Path, size: int) -> None:
    """Writes a WAV file of exactly this size with soft noise, so that no two rounds send the same file."""
    samples = np.random.default_rng().normal(0, 0.1, (2, size // 4)).astype(np.float32)
    audio.encode(samples, RATE, path, "wav", bits=16)


def write_noise(path: Path, size: int) -> None:
    """Writes a file that is not a song."""
    path.write_bytes(os.urandom(size))


def write_plainly(source: Path, folder: Path) -> float:
    """Copies a file's bytes to another file; returns the seconds."""
    data = source.read_bytes()
    path = folder / "plain"
    began = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        for start in range(0, len(data), BLOCK_BYTES):
            file.write(data[start : start + BLOCK_BYTES])
    seconds = time.perf_counter() - began
    path.unlink()
    return seconds


async def send_in_one_request(client: Client, _url: str, path: Path) -> int:
    """Sends a file in one request; returns the status of the answer."""
    return (await client.upload(path))[0]


async def send_by_tus(client: Client, url: str, path: Path) -> int:
    """Sends a file in pieces; returns the status of the last answer."""
    version = {"Tus-Resumable": "1.0.0"}
    content = await asyncio.to_thread(path.read_bytes)
    upload = await client.begin_upload({**version, "Upload-Length": str(len(content))})
    async with aiohttp.ClientSession(url) as session:
        for start in range(0, len(content), PIECE_BYTES):
            piece = content[start : start + PIECE_BYTES]
            headers = {
                **client.headers,
                **version,
                "Upload-Offset": str(start),
                "Content-Type": "application/offset+octet-stream",
            }
            async with session.patch(f"/api/v1/uploads/{upload}", data=piece, headers=headers) as answer:
                status = answer.status
    return status


async def measure(
    suite: Suite, send: Callable[[Client, str, Path], Awaitable[int]], client: Client, path: Path, expected: int
) -> Cost:
    """Sends a file and measures the cost."""
    pids = [suite.processes[name].pid for name in SERVERS]
    cpu, written = sum(map(_cpu_seconds, pids)), _written(pids[0])
    began = time.perf_counter()
    status = await send(client, suite.url, path)
    seconds = time.perf_counter() - began
    if status // 100 != expected // 100:
        raise RuntimeError(f"the upload was answered with {status}")
    return Cost(seconds, sum(map(_cpu_seconds, pids)) - cpu, _written(pids[0]) - written)


async def run(folder: Path, megabytes: int, rounds: int) -> None:
    """Prints a row for each way of sending and kind of file."""
    size = megabytes * 1_000_000
    limits = {
        "LIMIT__MAX_BYTES": 2 * size,
        "LIMIT__MAX_SECONDS": size,
        "DOWNLOAD__QUOTA_BYTES": 0,
        "DOWNLOAD__JOBS_PER_USER": 1000,
    }
    suite = Suite(folder, settings=limits)
    await asyncio.to_thread(suite.start, "auth", "download", "gateway")
    try:
        async with Client(suite.url) as client:
            await client.sign_in("admin", PASSWORD)
            await _rounds(suite, client, folder, size, rounds)
    finally:
        await asyncio.to_thread(suite.stop)


async def _rounds(suite: Suite, client: Client, folder: Path, size: int, rounds: int) -> None:
    print(f"{size / 1e6:.0f} MB; medians of {rounds}: seconds, against plain writing, CPU seconds, written / size")
    path = folder / "song.wav"
    for kind, write, expected in (("no song", write_noise, 400), ("a song", write_song, 200)):
        for name, send in (("one request", send_in_one_request), ("tus", send_by_tus)):
            await _warm_up(client, suite, send, path, write, expected)
            costs, plain = [], []
            for _ in range(rounds):
                write(path, size)
                plain.append(await asyncio.to_thread(write_plainly, path, folder))
                costs.append(await measure(suite, send, client, path, expected))
            seconds = statistics.median(cost.seconds for cost in costs)
            print(
                f"{kind + ', ' + name:22}{seconds:7.2f}{seconds / statistics.median(plain):7.1f}"
                f"{statistics.median(cost.cpu for cost in costs):7.2f}"
                f"{statistics.median(cost.written for cost in costs) / size:7.2f}",
                flush=True,
            )


async def _warm_up(
    client: Client,
    suite: Suite,
    send: Callable[[Client, str, Path], Awaitable[int]],
    path: Path,
    write: Callable[[Path, int], None],
    expected: int,
) -> None:
    """Starts the child that checks files, which would take a second of the first round."""
    write(path, BLOCK_BYTES)
    await measure(suite, send, client, path, expected)


def _cpu_seconds(pid: int) -> float:
    """CPU seconds of a process and its children, including ended ones."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK") + sum(map(_cpu_seconds, map(int, children)))


def _written(pid: int) -> int:
    """Bytes that a process has written, mostly to files; sockets use other system calls."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["wchar"])


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stemtube-bench-") as folder:
        asyncio.run(run(Path(folder), arguments.megabytes, arguments.rounds))


if __name__ == "__main__":
    main()
