"""`python -m services.auth`, as operators run it."""

import asyncio
import os
import re
import signal
import sqlite3
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import grpc.aio
import pytest

from services.auth.config import AuthSettings
from services.common.config import load
from services.common.rpc.client import open_channel
from services.common.storage.database import migrate
from stemtube.auth.v1 import session_pb2, session_pb2_grpc
from tests.common.damage import overwrite_header
from tests.suite.running import free_ports

ROOT = Path(__file__).resolve().parents[2]
Start = Callable[..., Awaitable[Process]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts auth processes on free ports, in an empty directory, and ends them after the test."""
    processes: list[Process] = []

    async def start(*arguments: str, **settings: str) -> Process:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STEMTUBE_")}
        environment |= {
            "PYTHONPATH": f"{ROOT}:{ROOT / 'protos' / 'gen'}",
            "STEMTUBE_AUTH__LISTEN": "127.0.0.1:0",
            "STEMTUBE_AUTH__HEALTH_LISTEN": "127.0.0.1:0",
            "STEMTUBE_AUTH__BCRYPT_COST": "4",
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.auth", *arguments),
            env=environment | settings,
            cwd=tmp_path,
            stdout=PIPE,
            stderr=PIPE,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def log_until_serving(process: Process) -> tuple[str, str]:
    """The log so far, and the address where the process listens."""
    assert process.stderr is not None
    log = ""
    while line := (await process.stderr.readline()).decode():
        log += line
        if found := re.search(r"serving +address=(\S+)", line):
            return log, found[1]
    raise AssertionError(f"it ended with {await process.wait()}: {log}")


async def login(address: str, password: str) -> session_pb2.Session:
    async with open_channel(address) as channel:
        request = session_pb2.LoginRequest(username="admin", password=password)
        return (await session_pb2_grpc.SessionServiceStub(channel).Login(request, timeout=20)).session


async def test_two_processes_that_start_at_once_share_one_admin_and_end_at_a_signal(
    start: Start, tmp_path: Path
) -> None:
    processes = [await start(), await start()]
    logs, addresses = zip(*[await log_until_serving(process) for process in processes], strict=True)
    file = tmp_path / "data" / "secrets" / "admin-password"
    password = file.read_text().strip()
    sessions = [await login(address, password) for address in addresses]
    assert sessions[0].user == sessions[1].user

    announced = [f"password is in {file}" in log for log in logs]
    assert sorted(announced) == [False, True]
    assert password not in "".join(logs)

    started = time.monotonic()
    for process, number in zip(processes, (signal.SIGTERM, signal.SIGINT), strict=True):
        process.send_signal(number)
    for process in processes:
        _, rest = await process.communicate()
        assert process.returncode == 0
        assert b"draining" in rest
        assert b"Traceback" not in rest
    assert time.monotonic() - started < 5


async def test_a_given_password_is_used_and_not_logged(start: Start, tmp_path: Path) -> None:
    process = await start(STEMTUBE_ADMIN_PASSWORD="correct horse", STEMTUBE_LOG__FORMAT="console")
    log, address = await log_until_serving(process)
    assert (await login(address, "correct horse")).user.admin
    process.terminate()
    _, rest = await process.communicate()
    assert "correct horse" not in log + rest.decode()
    assert not (tmp_path / "data" / "secrets" / "admin-password").exists()


async def test_a_wrong_setting_stops_the_start_with_one_line(start: Start) -> None:
    process = await start(STEMTUBE_AUTH__DATABASE_URL="mysql://me:hunter2@host")
    output, errors = await process.communicate()
    assert process.returncode == 1
    assert output == b""
    assert errors == (
        b"stemtube: wrong setting STEMTUBE_AUTH__DATABASE_URL: "
        b"must be a URL that begins with sqlite:/// or postgresql://\n"
    )


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("STEMTUBE_AUTH__BCRYPT_COST", "3", "greater than or equal to 4"),
        ("STEMTUBE_ADMIN_PASSWORD", "short", "must have 8 to 1024 characters"),
        ("STEMTUBE_AUTH__LISTEN", "50051", "must be host:port"),
        ("STEMTUBE_AUTH__ADMIN_USERNAME", "", "at least 1 character"),
        ("STEMTUBE_AUTH__ACCESS_TOKEN_MINUTES", "0", "greater than 0"),
    ],
)
def test_settings_have_limits(monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=f"{name}.*{told}"):
        load(AuthSettings)


async def test_a_process_that_cannot_start_logs_the_reason(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    process = await start(STEMTUBE_DATA_DIR=str(tmp_path / "file"))
    _, errors = await process.communicate()
    assert process.returncode == 1
    assert b"cannot start" in errors
    assert str(tmp_path / "file").encode() in errors
    assert b"Traceback" not in errors


async def test_help_lists_the_settings(start: Start) -> None:
    process = await start("--help")
    output, _ = await process.communicate()
    assert process.returncode == 0
    for line in (
        "STEMTUBE_ADMIN_PASSWORD=\n",
        "STEMTUBE_AUTH__LISTEN=127.0.0.1:50051\n",
        "STEMTUBE_AUTH__HEALTH_LISTEN=127.0.0.1:9091\n",
        "STEMTUBE_AUTH__BCRYPT_COST=12\n",
        "STEMTUBE_AUTH__ACCESS_TOKEN_MINUTES=15\n",
        "STEMTUBE_DATA_DIR=data\n",
    ):
        assert line in output.decode()


async def test_a_database_of_a_newer_version_stops_the_start_with_one_line(start: Start, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/auth.sqlite"
    await migrate(url, "services.auth")
    with sqlite3.connect(tmp_path / "auth.sqlite") as connection:
        connection.execute("UPDATE auth_schema_version SET version_num = '9999'")
    connection.close()
    process = await start(STEMTUBE_AUTH__DATABASE_URL=url)
    output, errors = await process.communicate()
    assert process.returncode == 1
    assert b"made by a newer version of StemTube" in errors
    assert (output + errors).count(b"\n") == 1


async def test_a_damaged_database_ends_readiness_at_the_next_sign_in(start: Start, tmp_path: Path) -> None:
    (health,) = free_ports(1)
    process = await start(STEMTUBE_AUTH__HEALTH_LISTEN=f"127.0.0.1:{health}")
    _, address = await log_until_serving(process)
    await asyncio.to_thread(overwrite_header, tmp_path / "data" / "databases" / "auth.sqlite")
    with pytest.raises(grpc.aio.AioRpcError) as fault:
        await login(address, "wrong")
    assert fault.value.code() == grpc.StatusCode.DATA_LOSS
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{health}/readyz") as answer:
        assert answer.status == 503
        assert "(DATABASE_DAMAGED)" in await answer.text()
