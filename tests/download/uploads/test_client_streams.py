"""The least rate of uploads, and the shares of users."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from services.common.errors import LimitExceededError, TooSlowError
from services.download.config import DownloadSection
from services.download.uploads.client_streams import ClientStreams, at_least


@dataclass
class Message:
    chunk: bytes


async def messages(*given: bytes | float) -> AsyncIterator[Message]:
    """Chunks, and pauses in seconds."""
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
            await taken(at_least(messages(*given), 100, 0.2))


async def test_a_stream_that_trickles_is_ended() -> None:
    async with asyncio.timeout(30):
        with pytest.raises(TooSlowError):
            await taken(at_least(messages(*(b"x", 0.02) * 1000), 1000, 0.2))


async def test_a_stream_at_the_least_rate_goes_on() -> None:
    given = (b"x" * 400, 0.05) * 8
    assert len(await taken(at_least(messages(*given), 1000, 0.3))) == 3200


async def test_the_time_in_which_bytes_are_stored_does_not_count() -> None:
    count = 0
    async for _message in at_least(messages(*[b"x"] * 4), 100, 0.1):
        await asyncio.sleep(0.1)
        count += 1
    assert count == 4


async def test_without_a_rate_nothing_is_ended() -> None:
    assert await taken(at_least(messages(b"a", 0.2, b"b"), 0, 0.05)) == b"ab"


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
