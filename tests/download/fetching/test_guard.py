"""Connections of a guarded process. Each test starts a process."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.download.site import Site

PROGRAM = """
import socket, sys, urllib.request
look_up = socket.getaddrinfo
# Stands for a name server that first gives a public address, then one of this machine.
rebound = []
def rebinding(host, port, *arguments, **options):
    if host == "rebound.example":
        rebound.append(host)
        host = "127.0.0.1"
    return look_up(host, port, *arguments, **options)
socket.getaddrinfo = rebinding
from services.download.fetching.guard import Guard, NotPublicError
guard = Guard(sys.argv[2:])
guard.install()
try:
    print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())
except OSError as error:
    print(type(getattr(error, "reason", error)).__name__, guard.refused)
"""


def attempt(url: str, *allowed: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, url, *allowed],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
        timeout=60,
    )
    return done.stdout.strip()


@pytest.fixture
async def page(site: Site) -> str:
    site.pages["page"] = "inside"
    return f"{site.url}/page"


async def test_an_allowed_host_is_reached_by_its_name(page: str) -> None:
    assert await asyncio.to_thread(attempt, page, "127.0.0.1") == "inside"
    assert await asyncio.to_thread(attempt, page.replace("127.0.0.1", "localhost"), "LocalHost.") == "inside"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "rebound.example", "[::ffff:127.0.0.1]", "0.0.0.0"])
async def test_other_addresses_of_this_machine_are_refused(host: str, page: str, site: Site) -> None:
    answer = await asyncio.to_thread(attempt, page.replace("127.0.0.1", host), "elsewhere.example")
    assert answer == "NotPublicError True"
    assert not site.asked
