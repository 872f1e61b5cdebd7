"""Uploads: passes a song's bytes from the browser to the library piece by piece, without keeping them.

The body is either `multipart/form-data` with the fields `options` (JSON, optional), `requestId` (optional) and `file`,
which must be the last one, because the library gets the options before the first byte. Or it is the file itself, named
by `Content-Disposition: attachment; filename="…"` or `?filename=`. Both accept `?options=` and `?requestId=`.

Reading waits until the library has taken each piece. If the library refuses, reading stops. If the client goes away or
sends less than it announced, the call to the library is cancelled, and the library keeps nothing.
"""

import asyncio
import re
import unicodedata
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import aiohttp
import grpc.aio
from aiohttp import hdrs, web
from aiohttp.multipart import BodyPartReader
from google.protobuf.message import Message

from gateway.config import MIB
from gateway.errors import TOO_LARGE
from gateway.keys import CHANNELS, LIMIT, SETTINGS, UPLOADS
from gateway.session.credentials import call_metadata
from gateway.transcoding.messages import (
    bad_request,
    body_timeout,
    fill,
    json_response,
    parse_json,
    query_of,
    unsupported_media_type,
)
from services.common.errors import InvalidInputError, LimitExceededError
from services.common.rpc.client import final_answer
from stemtube.download.v1 import track_job_pb2, upload_pb2, upload_pb2_grpc

HEADER_OPTIONS = track_job_pb2.ProcessingOptions.DESCRIPTOR
RESPONSE = upload_pb2.UploadTrackResponse.DESCRIPTOR
PATH = "/api/v1/tracks/upload"

CHUNK_BYTES = 256 * 1024
MAX_FILENAME = 255
_JOINERS = "\u200c\u200d\ufe0e\ufe0f"
# Bytes that a form may add to the file: boundaries, part headers, options.
FORM_OVERHEAD_BYTES = 2 * MIB
RAW_TYPES = ("audio/*", "video/*", "application/octet-stream", "application/ogg", "application/mp4")

Content = AsyncGenerator[upload_pb2.UploadTrackRequest, None]


async def upload(request: web.Request) -> web.StreamResponse:
    """POST /api/v1/tracks/upload → {track, job}.

    Raises:
        InvalidInputError: the form is not as described (reason BAD_REQUEST, NO_FILE, OPTIONS_AFTER_FILE, TRUNCATED).
        LimitExceededError: the file is too large (reason TOO_LARGE).
        grpc.aio.AioRpcError: the library's refusal.
    """
    _check_announced_size(request)
    stub: Any = upload_pb2_grpc.UploadServiceStub(request.app[CHANNELS][UPLOADS])
    header = _header_from_query(request)
    if request.content_type == "multipart/form-data":
        content = _form_content(request, header)
    else:
        content = _raw_content(request, header)
    call = stub.UploadTrack(timeout=request.app[SETTINGS].upload_seconds, metadata=call_metadata(request))
    return await json_response(await stream_up(call, content))


async def stream_up(call: Any, content: AsyncGenerator[Message, None]) -> Any:
    """Sends `content` to a client-streaming RPC that was just started, and returns its answer.

    Cancels the RPC if `content` raises.
    """
    answer = asyncio.ensure_future(final_answer(call))
    sending = asyncio.create_task(_send(call, content))
    try:
        await asyncio.wait({answer, sending}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            await sending
        return await answer
    finally:
        call.cancel()
        sending.cancel()
        await asyncio.gather(sending, answer, return_exceptions=True)


async def _send(call: Any, content: AsyncGenerator[Message, None]) -> None:
    """Sends `content`; waits until each piece was taken."""
    async with aclosing(content):
        async for message in content:
            try:
                await call.write(message)
            except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
                return  # The library has answered already; see the call's result.
        await call.done_writing()


async def expect(request: web.Request) -> None:
    """Answers `Expect: 100-continue`, unless the client announces too much."""
    announced = request.content_length
    fits = announced is None or announced <= request.app[LIMIT].max_bytes + FORM_OVERHEAD_BYTES
    if fits:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # aiohttp takes sent bytes for a response that has begun.
        request.writer.output_size = 0


def _check_announced_size(request: web.Request) -> None:
    limit = request.app[LIMIT].max_bytes
    if request.content_length is not None and request.content_length > limit + FORM_OVERHEAD_BYTES:
        raise _too_large(limit)


def _too_large(limit: int) -> LimitExceededError:
    return LimitExceededError(f"The file is larger than {limit / MIB:.0f} MiB.", TOO_LARGE, max_bytes=str(limit))


def _header_from_query(request: web.Request) -> upload_pb2.UploadHeader:
    query = query_of(request, "filename", "options", "requestId")
    header = upload_pb2.UploadHeader(filename=query.get("filename", ""), request_id=query.get("requestId", ""))
    if "options" in query:
        fill(header.options, parse_json(query["options"]))
        header.options.SetInParent()
    return header


async def _raw_content(request: web.Request, header: upload_pb2.UploadHeader) -> Content:
    kind = request.content_type
    if kind.partition("/")[0] not in ("audio", "video") and kind not in RAW_TYPES:
        raise unsupported_media_type("multipart/form-data", *RAW_TYPES)
    _type, parameters = aiohttp.parse_content_disposition(request.headers.get(hdrs.CONTENT_DISPOSITION))
    name = header.filename or aiohttp.content_disposition_filename(parameters) or ""
    yield _first_message(header, name)
    limit = _Limit(request)
    while chunk := await limit.next(request.content.readany()):
        yield upload_pb2.UploadTrackRequest(chunk=chunk)


async def _form_content(request: web.Request, header: upload_pb2.UploadHeader) -> Content:
    given: set[str] = set()
    idle_seconds = request.app[SETTINGS].body_idle_seconds
    try:
        form = await request.multipart()
        while part := await in_time(form.next(), idle_seconds):
            name = part.name if isinstance(part, BodyPartReader) else None
            if name is None or name in given or name not in ("file", "options", "requestId"):
                raise bad_request(f"The form has the fields options, requestId and file, each once; not {name!r}.")
            given.add(name)
            if "file" in given and name != "file":
                raise InvalidInputError(f"The form's field {name} must come before file.", "OPTIONS_AFTER_FILE")
            if name == "file":
                yield _first_message(header, header.filename or _unescaped(part.filename or ""))
                limit = _Limit(request)
                while chunk := await limit.next(part.read_chunk(CHUNK_BYTES)):
                    yield upload_pb2.UploadTrackRequest(chunk=chunk)
            else:
                text = await in_time(part.read(decode=True), idle_seconds)
                _set_field(header, name, bytes(text))
    except (ValueError, RuntimeError, AssertionError, aiohttp.http_exceptions.HttpProcessingError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError("The form is malformed or ends too early.", "TRUNCATED") from error
    if "file" not in given:
        raise InvalidInputError("The form has no field file.", "NO_FILE")


def _set_field(header: upload_pb2.UploadHeader, name: str, text: bytes) -> None:
    if name == "options":
        header.options.Clear()
        fill(header.options, parse_json(text))
        header.options.SetInParent()
    else:
        try:
            header.request_id = text.decode("utf-8")
        except UnicodeDecodeError:
            raise bad_request("requestId is not UTF-8.") from None


def _first_message(header: upload_pb2.UploadHeader, filename: str) -> upload_pb2.UploadTrackRequest:
    header.filename = display_name(filename)
    return upload_pb2.UploadTrackRequest(header=header)


class _Limit:
    """Limits the total size of the pieces, and the time between them."""

    def __init__(self, request: web.Request) -> None:
        self._max_bytes = request.app[LIMIT].max_bytes
        self._idle_seconds = request.app[SETTINGS].body_idle_seconds
        self._size = 0

    async def next(self, reading: Any) -> bytes:
        """The next piece, empty at the end."""
        chunk: bytes = await in_time(reading, self._idle_seconds)
        self._size += len(chunk)
        if self._size > self._max_bytes:
            raise _too_large(self._max_bytes)
        return chunk


async def in_time(reading: Any, seconds: float) -> Any:
    """Reads from a body; fails if nothing arrives for too long.

    Raises:
        HttpError: nothing arrived (reason BODY_TIMEOUT).
    """
    try:
        async with asyncio.timeout(seconds):
            return await reading
    except TimeoutError:
        raise body_timeout() from None


def display_name(name: str) -> str:
    """A file's name for display, in one line, at most 255 characters.

    Folders, controls and marks that change the direction of writing are left out. What joins letters and emoji stays.
    """
    last = name.replace("\\", "/").rpartition("/")[2]
    shown = "".join(_shown(character) for character in unicodedata.normalize("NFC", last))
    shown = " ".join(shown.split())[:MAX_FILENAME].strip()
    return shown if shown.strip(".") else "upload"


def _shown(character: str) -> str:
    if character in _JOINERS or character.isprintable():
        return character
    return " " if character.isspace() or unicodedata.category(character) in ("Zl", "Zp") else ""


def _unescaped(name: str) -> str:
    """The name as the user has it: browsers and curl send quotes and line breaks percent-encoded, and nothing else.

    WHATWG, HTML, multipart/form-data: https://html.spec.whatwg.org/#multipart-form-data
    """
    return re.sub("%(22|0D|0A)", lambda found: chr(int(found[1], 16)), name, flags=re.IGNORECASE)


routes = [web.post(PATH, upload, expect_handler=expect)]

_OPTIONS = {"$ref": "#/components/schemas/stemtube.download.v1.ProcessingOptions"}
OPENAPI: dict[str, Any] = {
    PATH: {
        "post": {
            "operationId": "UploadTrack",
            "tags": ["DownloadService"],
            "summary": "Adds a track from a file.",
            "description": __doc__,
            "parameters": [
                {
                    "name": "filename",
                    "in": "query",
                    "description": "Name of the file; gives the title if the file has no tags.",
                    "schema": {"type": "string"},
                },
                {
                    "name": "options",
                    "in": "query",
                    "description": "The stems and parts to make.",
                    "content": {"application/json": {"schema": _OPTIONS}},
                },
                {
                    "name": "requestId",
                    "in": "query",
                    "description": "Chosen by the caller, a UUID; the same id again gives the same track and job.",
                    "schema": {"type": "string"},
                },
            ],
            "requestBody": {
                "required": True,
                "content": {
                    "multipart/form-data": {
                        "schema": {
                            "type": "object",
                            "properties": {
                                "options": _OPTIONS,
                                "requestId": {"type": "string"},
                                "file": {"type": "string", "contentMediaType": "application/octet-stream"},
                            },
                            "required": ["file"],
                        },
                        "encoding": {"options": {"contentType": "application/json"}},
                    },
                    **{media_type: {} for media_type in RAW_TYPES},
                },
            },
            "responses": {
                "200": {
                    "description": "The track and the job that works on it.",
                    "content": {
                        "application/json": {
                            "schema": {"$ref": "#/components/schemas/stemtube.download.v1.UploadTrackResponse"}
                        }
                    },
                },
                "400": {"$ref": "#/components/responses/Error"},
                "401": {"$ref": "#/components/responses/Error"},
                "413": {"$ref": "#/components/responses/Error"},
                "415": {"$ref": "#/components/responses/Error"},
                "default": {"$ref": "#/components/responses/Error"},
            },
        }
    }
}
