"""Liveness, readiness and metrics of the gateway.

On the public address, the first two are a single word. Reasons, metrics and errors are on an address for operators.
"""

import asyncio
from typing import Any

import grpc
import grpc.aio
from aiohttp import web
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.keys import CHANNELS, SESSIONS, STOPPING, STORE, TRACKS
from services.common.observe.telemetry import errors, metrics

# Without auth nobody can sign in, and without the library there is nothing to show; other services may be away.
NEEDED = (SESSIONS, TRACKS)
CHECK_SECONDS = 2.0
READY = "ready"


async def healthz(_request: web.Request) -> web.Response:
    """GET /healthz: the process lives."""
    return web.json_response({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """GET /readyz: 200 if the needed services answer and the object store is there, else 503."""
    status, _states = await _readiness(request.app)
    return web.json_response({"status": status}, status=200 if status == READY else 503)


async def readyz_of_each(request: web.Request) -> web.Response:
    """The same, with the state of each of these services, and of the store if it is away."""
    status, states = await _readiness(request.app)
    return web.json_response({"status": status, "services": states}, status=200 if status == READY else 503)


async def _readiness(app: web.Application) -> tuple[str, dict[str, str]]:
    if app[STOPPING].is_set():
        return "stopping", {}
    problem, *found = await asyncio.gather(
        app[STORE].problem(), *(_state(app[CHANNELS][name], name) for name in NEEDED)
    )
    states = dict(zip(NEEDED, found, strict=True)) | ({"object store": problem} if problem else {})
    ready = not problem and all(state == "SERVING" for state in found)
    return READY if ready else "not ready", states


async def _state(channel: grpc.aio.Channel, service: str) -> str:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    try:
        request = health_pb2.HealthCheckRequest(service=service)
        answer = await stub.Check(request, timeout=CHECK_SECONDS)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def health_app(gateway: web.Application) -> web.Application:
    """Health, metrics and errors of a running gateway for operators, on a separate address."""
    app = web.Application()
    app[CHANNELS], app[STOPPING], app[STORE] = gateway[CHANNELS], gateway[STOPPING], gateway[STORE]
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz_of_each)])
    app.add_routes([web.get("/metrics", metrics), web.get("/errors", errors)])
    return app


routes = [web.get("/healthz", healthz), web.get("/readyz", readyz)]
"""Of the public address."""
