"""Passes streams of a service on to browsers, over a WebSocket or as server-sent events.

WebSocket: each message is one JSON text, the RPC's response; a stream that fails sends `{"error": Status}`
last. It closes with one of these codes:

1000         the RPC ended: nothing more will come
1012, 1013   connect again: the service or the gateway restarts, or the stream reached its longest lifetime (1012); a
             service is unreachable, or this client was too slow (1013)
4000 + code  the RPC failed with that `google.rpc.Code`: 4003 bad request, 4005 not found, 4016 not signed in …

Server-sent events: `data:` is the RPC's response; `event: error` with `{"error": Status}` means a failure, `event: end`
a regular end. If the stream ends without these, open it again; EventSource does so by itself.

A client that reads too slowly is dropped when its bounded buffer is full. It connects again and gets a snapshot, which
is better than a growing queue of old changes.
"""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc.aio
import structlog
from aiohttp import hdrs, web
from prometheus_client import Gauge

from gateway.errors import HttpError, from_rpc, status_json
from gateway.keys import SETTINGS, STOPPING
from gateway.transcoding.messages import to_json
from services.common.errors import Code, InternalError, StemTubeError

log = structlog.get_logger(__name__)

STREAMS = Gauge("stemtube_http_streams", "Event streams open now.", ["kind"])

DONE, RESTART, TRY_AGAIN, FAILED = 1000, 1012, 1013, 4000
CLOSE_SECONDS = 2.0
MAX_CLIENT_MESSAGE_BYTES = 4096

OpenCall = Callable[[], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a stream ended.

    Args:
        close_code: WebSocket close code.
        text: for a person.
        error: the error to send to the client, if any.
    """

    close_code: int
    text: str
    error: StemTubeError | None = None


RESTARTING = Ending(RESTART, "the server restarts: connect again")
TOO_OLD = Ending(RESTART, "the stream reached its greatest age: connect again")
TOO_SLOW = Ending(TRY_AGAIN, "too slow: connect again for a snapshot")
COMPLETE = Ending(DONE, "nothing more will come")


def ending_of(error: StemTubeError) -> Ending:
    """The ending of a stream that failed with `error`."""
    if error.code is Code.UNAVAILABLE:
        return Ending(RESTART if error.reason == "DRAINING" else TRY_AGAIN, error.message, error)
    return Ending(FAILED + error.code, error.message, error)


class Outbox:
    """Messages that wait for one client, in order, then the ending. Bounded by number and by size."""

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._messages: deque[str] = deque()
        self._size = 0
        self._ending: Ending | None = None
        self._news = asyncio.Event()
        self._overflown = asyncio.Event()

    def put(self, message: str) -> bool:
        """Adds a message; False if there is no room, which ends the stream."""
        self._size += len(message)
        if self._messages and (len(self._messages) >= self._max_messages or self._size > self._max_bytes):
            self._overflown.set()
            return False
        self._messages.append(message)
        self._news.set()
        return True

    def end(self, ending: Ending) -> None:
        """Puts the ending after the last message."""
        self._ending = ending
        self._news.set()

    async def get(self) -> str | Ending:
        """The next message, or the ending after the last."""
        while not self._messages:
            if self._ending:
                return self._ending
            self._news.clear()
            await self._news.wait()
        message = self._messages.popleft()
        self._size -= len(message)
        return message

    async def overflow(self) -> Ending:
        """Waits until a message finds no room."""
        await self._overflown.wait()
        return TOO_SLOW


async def serve(request: web.Request, open_call: OpenCall) -> web.StreamResponse:
    """Passes a stream on in the form that the client asks for.

    Args:
        request: asks for a WebSocket or accepts `text/event-stream`.
        open_call: reads the request and starts the RPC.

    Raises:
        HttpError: the client asks for neither (426).
    """
    if web.WebSocketResponse().can_prepare(request):
        with STREAMS.labels("websocket").track_inprogress():
            return await _serve_websocket(request, open_call)
    if "text/event-stream" in request.headers.get(hdrs.ACCEPT, ""):
        with STREAMS.labels("sse").track_inprogress():
            return await _serve_events(request, open_call)
    message = "This is a stream: open it as a WebSocket, or send Accept: text/event-stream."
    raise HttpError(426, Code.INVALID_ARGUMENT, message, "UPGRADE_REQUIRED", {"Upgrade": "websocket"})


@contextlib.asynccontextmanager
async def _following(request: web.Request, open_call: OpenCall) -> AsyncIterator[Outbox]:
    """Fills an outbox from the RPC; leaving the context cancels the RPC."""
    settings = request.app[SETTINGS]
    outbox = Outbox(settings.max_buffered_events, settings.max_buffered_event_bytes)
    task = asyncio.create_task(_follow(open_call, outbox))
    try:
        yield outbox
    finally:
        await _cancel(task)


async def _follow(open_call: OpenCall, outbox: Outbox) -> None:
    call: Any = None
    try:
        call = await open_call()
        async for response in call:
            if not outbox.put(to_json(response)):
                return
        outbox.end(COMPLETE)
    except grpc.aio.AioRpcError as error:
        too_old = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        outbox.end(TOO_OLD if too_old else ending_of(from_rpc(error)))
    except StemTubeError as error:
        outbox.end(ending_of(error))
    except Exception:
        log.exception("stream failed")
        outbox.end(ending_of(InternalError("Something went wrong here; the server's log tells more.")))
    finally:
        if call is not None:
            call.cancel()


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _stopping(request: web.Request) -> Ending:
    await request.app[STOPPING].wait()
    return RESTARTING


def _error_json(error: StemTubeError) -> str:
    return json.dumps({"error": status_json(error)}, ensure_ascii=False)


async def _first(*contenders: Awaitable[Ending | None]) -> Ending | None:
    """The result of the first one to finish; cancels the others."""
    tasks = [asyncio.ensure_future(contender) for contender in contenders]
    try:
        done, _pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()
    finally:
        await _cancel(*tasks)


async def _serve_websocket(request: web.Request, open_call: OpenCall) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(
        heartbeat=request.app[SETTINGS].heartbeat_seconds,
        compress=False,
        max_msg_size=MAX_CLIENT_MESSAGE_BYTES,
        timeout=CLOSE_SECONDS,
    )
    await socket.prepare(request)
    async with _following(request, open_call) as outbox:
        try:
            ending = await _first(
                _send_all(socket, outbox), _until_closed(socket), _stopping(request), outbox.overflow()
            )
        except ConnectionError:
            ending = None
    if ending:
        await _close(request, socket, ending)
    return socket


async def _send_all(socket: web.WebSocketResponse, outbox: Outbox) -> Ending:
    while isinstance(item := await outbox.get(), str):
        await socket.send_str(item)
    if item.error and item.close_code >= FAILED:
        await socket.send_str(_error_json(item.error))
    return item


async def _until_closed(socket: web.WebSocketResponse) -> None:
    """Waits until the client closes; ignores its messages."""
    async for _message in socket:
        pass


async def _close(request: web.Request, socket: web.WebSocketResponse, ending: Ending) -> None:
    reason = ending.text.encode()[:120].decode(errors="ignore").encode()
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await socket.close(code=ending.close_code, message=reason)
    except TimeoutError:
        # The client does not even read the close frame; its buffered data would stay forever.
        if request.transport:
            request.transport.abort()


async def _serve_events(request: web.Request, open_call: OpenCall) -> web.StreamResponse:
    heartbeat = request.app[SETTINGS].heartbeat_seconds
    async with _following(request, open_call) as outbox:
        try:
            # An error before the first message is an HTTP error, because nothing has been sent yet.
            async with asyncio.timeout(heartbeat):
                first: str | Ending | None = await outbox.get()
        except TimeoutError:
            first = None
        if isinstance(first, Ending) and first.error:
            raise first.error
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        await response.prepare(request)
        ending = await _first(_write_all(response, outbox, first, heartbeat), _stopping(request), outbox.overflow())
        if ending is TOO_SLOW and request.transport:
            request.transport.abort()
    return response


async def _write_all(
    response: web.StreamResponse, outbox: Outbox, item: str | Ending | None, heartbeat: float
) -> Ending:
    while not isinstance(item, Ending):
        await response.write(b": still here\n\n" if item is None else f"data: {item}\n\n".encode())
        try:
            async with asyncio.timeout(heartbeat):
                item = await outbox.get()
        except TimeoutError:
            item = None
    if item.error and item.close_code >= FAILED:
        await response.write(f"event: error\ndata: {_error_json(item.error)}\n\n".encode())
    elif item is COMPLETE:
        await response.write(b"event: end\ndata: {}\n\n")
    return item
