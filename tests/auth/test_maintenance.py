"""Tasks that run every hour."""

import asyncio

import pytest
from structlog.testing import capture_logs

from services.auth import app
from services.common.errors import UnavailableError


@pytest.mark.parametrize("error", [UnavailableError("no answer", "DATABASE_UNAVAILABLE"), ValueError("a bug")], ids=str)
async def test_a_task_that_fails_is_named_in_the_log_and_stops_no_other(error: Exception) -> None:
    second_ran = asyncio.Event()

    async def fail() -> None:
        raise error

    async def run() -> None:
        second_ran.set()

    with capture_logs() as lines:
        maintaining = asyncio.create_task(app._maintain_forever({"first": fail, "second": run}))
        async with asyncio.timeout(10):
            await second_ran.wait()
        maintaining.cancel()
        await asyncio.wait({maintaining})
    assert [line["task"] for line in lines] == ["first"]
    assert "tried again" in lines[0]["event"]
