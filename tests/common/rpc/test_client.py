"""Calls to services."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import BytesValue, StringValue

from services.common.rpc.client import final_answer

METHOD = "/upload.Service/Upload"


def refuse(requests: Iterator[BytesValue], context: grpc.ServicerContext) -> StringValue:
    for _number, _request in zip(range(3), requests, strict=False):
        pass
    context.set_trailing_metadata((("reason", "full"),))
    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much")


@pytest.fixture
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.server(ThreadPoolExecutor(2))
    handler = grpc.stream_unary_rpc_method_handler(
        refuse, request_deserializer=BytesValue.FromString, response_serializer=StringValue.SerializeToString
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("upload.Service", {"Upload": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await asyncio.to_thread(server.stop(0).wait)


async def send(call: Any, chance: random.Random) -> None:
    """Writes more than the server reads, at the uneven pace of a busy machine."""
    with contextlib.suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
        for _number in range(40):
            await asyncio.sleep(chance.choice((0.0, 0.0, 0.001)))
            time.sleep(chance.choice((0.0, 0.0, 0.0, 0.002)))  # noqa: ASYNC251 - the loop is held up on purpose
            await call.write(BytesValue(value=bytes(256 * 1024)))
        await call.done_writing()


async def test_a_refusal_in_the_middle_of_a_stream_is_never_lost(channel: grpc.aio.Channel) -> None:
    """Without `final_answer` some calls end with INTERNAL."""
    upload = channel.stream_unary(
        METHOD, request_serializer=BytesValue.SerializeToString, response_deserializer=StringValue.FromString
    )
    chance = random.Random(7)
    ends = set()
    for _number in range(150):
        call = upload()
        sending = asyncio.create_task(send(call, chance))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await final_answer(call)
        error = raised.value
        ends.add((error.code(), error.details(), tuple(error.trailing_metadata() or ())))
        await sending
    assert ends == {(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much", (("reason", "full"),))}
