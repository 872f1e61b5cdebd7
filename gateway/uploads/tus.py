"""Resumable uploads: the tus protocol 1.0 (https://tus.io/protocols/resumable-upload), for any of its clients.

A client announces a file with its size, then sends it in one or more requests. Each begins where the last one ended;
HEAD returns that offset. The library keeps the bytes, so any gateway can take the next ones.

`Upload-Metadata` can have `filename` (or `name`) and `options` (the processing options as JSON); other keys are kept
for the client. The request with the last byte is answered when the file has been checked: with the headers
`Stemtube-Track-Id` and `Stemtube-Job-Id`, or with the library's refusal, which ends the upload.
"""

import asyncio
import base64
import binascii
import re
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC
from email.utils import format_datetime
from typing import Any

from aiohttp import hdrs, web

from gateway.errors import HttpError
from gateway.keys import CHANNELS, LIMIT, SETTINGS, UPLOADS
from gateway.response_headers import is_header_text
from gateway.session.credentials import call_metadata
from gateway.transcoding.messages import bad_request, fill, parse_json, unsupported_media_type
from gateway.uploads.form import display_name, expect, in_time, stream_up
from services.common.errors import Code, NotFoundError
from stemtube.download.v1 import upload_pb2 as pb
from stemtube.download.v1 import upload_pb2_grpc

PATH = "/api/v1/uploads"
VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,expiration,termination"
BODY_TYPE = "application/offset+octet-stream"
MAX_DIGITS = 15
SENDING: web.AppKey[set[asyncio.Task[Any]]] = web.AppKey("sending", set)
_ID = re.compile(r"[0-9a-f]{32}")


async def capabilities(request: web.Request) -> web.Response:
    """OPTIONS: versions, extensions, the largest size."""
    limit = request.app[LIMIT].max_bytes
    return web.Response(
        status=204, headers={"Tus-Version": VERSION, "Tus-Extension": EXTENSIONS, "Tus-Max-Size": str(limit)}
    )


async def create(request: web.Request) -> web.Response:
    """POST: begins an upload, with its first bytes if there is a body.

    Raises:
        HttpError: another version of the protocol.
        InvalidInputError: there is no size, or a header is malformed (reason BAD_REQUEST).
        grpc.aio.AioRpcError: the library's refusal.
    """
    _expect_version(request)
    announced = pb.CreateUploadRequest(size_bytes=_number(request, "Upload-Length"))
    metadata = request.headers.get("Upload-Metadata", "")
    values = _parse_metadata(metadata)
    announced.metadata = metadata
    announced.filename = display_name(values.get("filename") or values.get("name", ""))
    if "options" in values:
        fill(announced.options, parse_json(values["options"]))
        announced.options.SetInParent()
    seconds = request.app[SETTINGS].call_seconds
    answer = await _stub(request).CreateUpload(announced, timeout=seconds, metadata=call_metadata(request))
    upload = answer.upload
    if request.can_read_body and request.content_type == BODY_TYPE:
        upload = await _append(request, upload.id, 0)
    return _response(201, upload, Location=f"{PATH}/{upload.id}")


async def show_offset(request: web.Request) -> web.Response:
    """HEAD: how much has arrived.

    Raises:
        HttpError: another version of the protocol.
        grpc.aio.AioRpcError: no such upload.
    """
    _expect_version(request)
    asked = pb.GetUploadRequest(upload_id=_upload_id(request))
    seconds = request.app[SETTINGS].call_seconds
    upload = (await _stub(request).GetUpload(asked, timeout=seconds, metadata=call_metadata(request))).upload
    headers = {"Upload-Length": str(upload.size_bytes)}
    if upload.metadata and is_header_text(upload.metadata):
        headers["Upload-Metadata"] = upload.metadata
    return _response(200, upload, **headers)


async def append(request: web.Request) -> web.Response:
    """PATCH: further bytes, from `Upload-Offset` on.

    Raises:
        HttpError: another version of the protocol, another media type, or the body did not arrive in time.
        InvalidInputError: there is no offset (reason BAD_REQUEST).
        ConnectionError, web.RequestPayloadError: the connection broke; the bytes that arrived are kept.
        grpc.aio.AioRpcError: the library's refusal: a wrong offset, or a file that is not a song.
    """
    _expect_version(request)
    if request.content_type != BODY_TYPE:
        raise unsupported_media_type(BODY_TYPE)
    offset = _number(request, "Upload-Offset")
    return _response(204, await _append(request, _upload_id(request), offset))


async def terminate(request: web.Request) -> web.Response:
    """DELETE: ends an upload.

    Raises:
        HttpError: another version of the protocol.
        grpc.aio.AioRpcError: no such upload.
    """
    _expect_version(request)
    asked = pb.DeleteUploadRequest(upload_id=_upload_id(request))
    seconds = request.app[SETTINGS].call_seconds
    await _stub(request).DeleteUpload(asked, timeout=seconds, metadata=call_metadata(request))
    return web.Response(status=204)


async def overridden(request: web.Request) -> web.Response:
    """POST to an upload: acts like the method in `X-HTTP-Method-Override`, for clients that have only GET and POST.

    Raises:
        web.HTTPMethodNotAllowed: it names none.
    """
    method = request.headers.get("X-HTTP-Method-Override", "")
    handlers = {hdrs.METH_PATCH: append, hdrs.METH_DELETE: terminate, hdrs.METH_HEAD: show_offset}
    if method not in handlers:
        raise web.HTTPMethodNotAllowed(method or hdrs.METH_POST, (hdrs.METH_GET, *handlers))
    return await handlers[method](request)


async def sending(app: web.Application) -> AsyncIterator[None]:
    """Ends transfers to the library when the gateway stops."""
    app[SENDING] = set()
    yield
    tasks = app[SENDING].copy()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Adds the protocol's version to every answer, including errors."""
    if request.path == PATH or request.path.startswith(f"{PATH}/"):
        response.headers["Tus-Resumable"] = VERSION


async def _append(request: web.Request, upload_id: str, offset: int) -> pb.Upload:
    broken: list[Exception] = []

    async def content() -> AsyncGenerator[pb.AppendUploadRequest, None]:
        yield pb.AppendUploadRequest(header=pb.AppendHeader(upload_id=upload_id, offset=offset))
        try:
            while chunk := await in_time(request.content.readany(), request.app[SETTINGS].body_idle_seconds):
                yield pb.AppendUploadRequest(chunk=chunk)
        except (HttpError, web.RequestPayloadError, ConnectionError) as error:
            # The stream ends normally, so that the library keeps all bytes that have arrived.
            broken.append(error)

    seconds = request.app[SETTINGS].upload_seconds
    call = _stub(request).AppendUpload(timeout=seconds, metadata=call_metadata(request))
    # A client that goes away cancels its request; the bytes that it sent still go to the library.
    delivery = asyncio.create_task(stream_up(call, content()))
    request.app[SENDING].add(delivery)
    delivery.add_done_callback(lambda _: _forget(request.app[SENDING], delivery))
    answer = await asyncio.shield(delivery)
    if broken:
        raise broken[0]
    upload: pb.Upload = answer.upload
    return upload


def _forget(deliveries: set[asyncio.Task[Any]], delivery: asyncio.Task[Any]) -> None:
    deliveries.discard(delivery)
    if not delivery.cancelled():
        delivery.exception()  # if the client has gone nobody else reads it, and asyncio would log it as a fault


def _stub(request: web.Request) -> Any:
    return upload_pb2_grpc.UploadServiceStub(request.app[CHANNELS][UPLOADS])


def _response(status: int, upload: pb.Upload, **headers: str) -> web.Response:
    expires = upload.expire_time.ToDatetime(tzinfo=UTC)
    headers |= {"Upload-Offset": str(upload.offset), "Upload-Expires": format_datetime(expires, usegmt=True)}
    if upload.track_id:
        headers |= {"Stemtube-Track-Id": upload.track_id, "Stemtube-Job-Id": upload.job_id}
    return web.Response(status=status, headers=headers)


def _expect_version(request: web.Request) -> None:
    if request.headers.get("Tus-Resumable") != VERSION:
        message = f"Name the version of tus that is spoken here: Tus-Resumable: {VERSION}."
        raise HttpError(412, Code.FAILED_PRECONDITION, message, "UNSUPPORTED_TUS_VERSION", {"Tus-Version": VERSION})


def _upload_id(request: web.Request) -> str:
    upload_id = request.match_info["upload_id"]
    if not _ID.fullmatch(upload_id):
        raise NotFoundError("There is no such upload, or it has expired.", "NO_SUCH_UPLOAD")
    return upload_id


def _number(request: web.Request, name: str) -> int:
    text = request.headers.get(name, "")
    if not (text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS):
        raise bad_request(f"The header {name} must be a number of bytes.")
    return int(text)


def _parse_metadata(text: str) -> dict[str, str]:
    """Parses keys with values in Base64, separated by commas."""
    if not is_header_text(text):
        raise bad_request("Upload-Metadata has characters that no header has.")
    values: dict[str, str] = {}
    for pair in filter(None, (pair.strip() for pair in text.split(","))):
        key, _, encoded = pair.partition(" ")
        try:
            values[key] = base64.b64decode(encoded.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise bad_request(f"Upload-Metadata: the value of {key!r} is not text in Base64.") from None
    return values


routes = [
    web.options(PATH, capabilities),
    web.post(PATH, create, expect_handler=expect),
    web.options(PATH + "/{upload_id}", capabilities),
    web.head(PATH + "/{upload_id}", show_offset),
    web.patch(PATH + "/{upload_id}", append, expect_handler=expect),
    web.delete(PATH + "/{upload_id}", terminate),
    web.post(PATH + "/{upload_id}", overridden, expect_handler=expect),
]
