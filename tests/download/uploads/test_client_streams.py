"""The minimum rate of uploads, and the limits of their number."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from services.common.errors import LimitExceededError, TooSlowError
from services.download.config import DownloadSection
from services.download.uploads.client_streams import ClientStreams, at_minimum_rate


@dataclass
class Message:
    chunk: bytes


async def messages(*given: bytes | float) -> AsyncIterator[Message]:
    """Yields chunks, with pauses in seconds between them."""
    for item in given:
        if isinstance(item, float):
            await asyncio.sleep(item)
        else:
            yield Message(item)


async def taken(given: AsyncIterator[Message]) -> bytes:
    return b"".join([message.chunk async for message in given])


@pytest.mark.parametrize("given", [(60.0,), (b"x", 60.0), (b"x" * 100, b"x", 60.0), (b"", b"", 60.0)])
async def test_a_stream_that_stops_is_ended(given: tuple[bytes | float, ...]) -> None:
    async with asyncio.timeout(30):
        with pytest.raises(TooSlowError):
            await taken(at_minimum_rate(messages(*given), 100, 0.2))


async def test_a_slow_stream_is_ended() -> None:
    async with asyncio.timeout(30):
        with pytest.raises(TooSlowError):
            await taken(at_minimum_rate(messages(*(b"x", 0.02) * 1000), 1000, 0.2))


async def test_a_stream_at_the_minimum_rate_continues() -> None:
    given = (b"x" * 400, 0.05) * 8
    assert len(await taken(at_minimum_rate(messages(*given), 1000, 0.3))) == 3200


async def test_time_for_storing_bytes_does_not_count() -> None:
    count = 0
    async for _message in at_minimum_rate(messages(*[b"x"] * 4), 100, 0.1):
        await asyncio.sleep(0.1)
        count += 1
    assert count == 4


async def test_streams_are_not_ended_without_a_minimum_rate() -> None:
    assert await taken(at_minimum_rate(messages(b"a", 0.2, b"b"), 0, 0.05)) == b"ab"


async def test_one_user_never_has_all_streams() -> None:
    streams = ClientStreams(DownloadSection(upload_streams_per_user=100, upload_streams=8))
    async with contextlib.AsyncExitStack() as stack:
        for user, most in (("ann", 4), ("ben", 2), ("eve", 1)):
            for _ in range(most):
                await stack.enter_async_context(streams.reading(user, messages()))
            with pytest.raises(LimitExceededError) as full:
                await stack.enter_async_context(streams.reading(user, messages()))
            assert full.value.reason == "TOO_MANY_STREAMS"
            assert full.value.metadata["retry_after_seconds"]
    async with streams.reading("eve", messages(b"x")) as content:
        assert await taken(content) == b"x"
