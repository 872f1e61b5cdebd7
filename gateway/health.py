"""Whether the gateway lives, whether it can do its work, and its metrics."""

import asyncio
from typing import Any

import grpc
import grpc.aio
from aiohttp import web
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.keys import AUTH, CHANNELS, STOPPING
from gateway.uploads import DOWNLOAD
from services.common.telemetry import errors, metrics

# Nobody can sign in without auth, and there is nothing to see without the library; the rest can be away for a while.
NEEDED = (AUTH, DOWNLOAD)
CHECK_SECONDS = 2.0


async def healthz(_request: web.Request) -> web.Response:
    """GET /healthz: the process lives."""
    return web.json_response({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """GET /readyz: 200 if the services that everything needs answer, else 503; which one does not is in the body."""
    if request.app[STOPPING].is_set():
        return web.json_response({"status": "stopping"}, status=503)
    states = await asyncio.gather(*(_state(request.app[CHANNELS][name], name) for name in NEEDED))
    ready = all(state == "SERVING" for state in states)
    content = {"status": "ready" if ready else "not ready", "services": dict(zip(NEEDED, states, strict=True))}
    return web.json_response(content, status=200 if ready else 503)


async def _state(channel: grpc.aio.Channel, service: str) -> str:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    try:
        request = health_pb2.HealthCheckRequest(service=service)
        answer = await stub.Check(request, timeout=CHECK_SECONDS)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def health_app(gateway: web.Application) -> web.Application:
    """The same, and /errors, on an address of its own, about a running gateway."""
    app = web.Application()
    app[CHANNELS], app[STOPPING] = gateway[CHANNELS], gateway[STOPPING]
    app.add_routes([*routes, web.get("/errors", errors)])
    return app


routes = [web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)]
