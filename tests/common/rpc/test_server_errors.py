"""Errors of RPCs at the client."""

from urllib.parse import quote

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2

from services.common.errors import Code, InvalidInputError
from services.common.rpc.client import RemoteError, domain_error
from services.common.rpc.server import MAX_METADATA_BYTES
from services.common.rpc.statuses import error_status
from tests.common.rpc.echo import Client, Echo


async def test_a_domain_error_arrives_with_code_message_and_reason(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await client.say("missing")
    error = domain_error(refusal.value)
    assert isinstance(error, RemoteError)
    assert error.code is Code.NOT_FOUND
    assert error.message == "Für „Zoë“ gibt es nichts\n(100 %)."
    assert error.reason == "NO_SUCH_TRACK"
    assert error.metadata == {"track": "t1"}


async def test_error_details_have_the_standard_form(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await client.say("missing")
    details = dict(refusal.value.trailing_metadata() or ())["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(details)
    info = error_details_pb2.ErrorInfo()
    assert status.code == grpc.StatusCode.NOT_FOUND.value[0]
    assert status.details[0].Unpack(info)
    assert (info.domain, info.reason) == ("stemtube", "NO_SUCH_TRACK")


async def test_an_error_in_a_stream_arrives_after_the_sent_messages(client: Client) -> None:
    stream = client.stream("Repeat", "fail")
    assert (await stream.read()).value == "fail"
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await stream.read()
    assert domain_error(refusal.value).reason == "TOO_MANY"


@pytest.mark.parametrize("text", ["x" * 100_000, "\U0001f3b8" * 50_000, "\0\r\n" * 20_000, "\ud800"])
async def test_an_error_with_any_text_fits_into_metadata(text: str) -> None:
    status = error_status(InvalidInputError(f"not {text}", "BAD_REQUEST", text=text))
    assert status.message.startswith("not ")
    # Metadata contain it twice: percent-encoded, and in base64.
    assert len(quote(status.message)) + len(status.SerializeToString()) * 4 / 3 < MAX_METADATA_BYTES


async def test_a_bug_in_an_rpc_is_internal_and_reveals_nothing(client: Client, echo: Echo) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as fault:
        await client.say("fault hunter2")
    error = domain_error(fault.value)
    assert (error.code, error.reason) == (Code.INTERNAL, "INTERNAL")
    assert "hidden" not in f"{fault.value!r} {fault.value.trailing_metadata()}"
    assert await client.say("still here") == "still here"


async def test_an_error_without_details_has_its_code_as_reason(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await client.say("hello", "/test.Echo/Nothing")
    error = domain_error(refusal.value)
    assert (error.code, error.reason) == (Code.UNIMPLEMENTED, "UNIMPLEMENTED")
