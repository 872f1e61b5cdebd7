"""Serves every RPC that declares an HTTP route, by the contracts' descriptors; a new RPC needs no code here."""

from typing import Any, Protocol

import grpc.aio
from aiohttp import web
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from gateway.keys import CHANNELS, SETTINGS
from gateway.session.credentials import call_metadata
from gateway.streams import events
from gateway.transcoding.bindings import Binding, Services, bindings
from gateway.transcoding.messages import fill_request, json_response, read_json


def routes(services: Services) -> list[web.RouteDef]:
    """The declared HTTP routes of all RPCs.

    Raises:
        gateway.transcoding.bindings.BadAnnotationError: a declaration cannot be served.
    """
    return [_route(binding) for binding in bindings(services)]


def _route(binding: Binding) -> web.RouteDef:
    handler = _Stream(binding).serve if binding.method.server_streaming else _Unary(binding).serve
    if binding.verb == "GET":
        return web.get(binding.template.route, handler, allow_head=not binding.method.server_streaming)
    return web.route(binding.verb, binding.template.route, handler)


class MultiCallable(Protocol):
    """A way to call one RPC on one channel."""

    def __call__(self, request: Message, *, timeout: float, metadata: Any) -> Any:
        """Starts the call."""


def multi_callable(channel: grpc.aio.Channel, method: MethodDescriptor) -> MultiCallable:
    """The caller of an RPC, made from its descriptor."""
    open_call: Any = channel.unary_stream if method.server_streaming else channel.unary_unary
    caller: MultiCallable = open_call(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
    )
    return caller


class _Transcoded:
    """A route to an RPC."""

    def __init__(self, binding: Binding) -> None:
        self._binding = binding
        self._request_class = message_factory.GetMessageClass(binding.method.input_type)

    async def _message(self, request: web.Request) -> Message:
        body = await read_json(request) if self._binding.body else None
        return fill_request(self._binding, self._request_class(), request.match_info, request.query.items(), body)

    def _call(self, request: web.Request, message: Message, seconds: float) -> Any:
        method = self._binding.method
        channel = request.app[CHANNELS][method.containing_service.full_name]
        return multi_callable(channel, method)(message, timeout=seconds, metadata=call_metadata(request))


class _Unary(_Transcoded):
    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answers with the RPC's response."""
        message = await self._message(request)
        return await json_response(await self._call(request, message, request.app[SETTINGS].call_seconds))


class _Stream(_Transcoded):
    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Passes the RPC's responses on as WebSocket messages or server-sent events."""
        return await events.serve(request, lambda: self._open(request))

    async def _open(self, request: web.Request) -> Any:
        message = await self._message(request)
        return self._call(request, message, request.app[SETTINGS].stream_seconds)
