"""Routes for admins to each process: its log, its jobs, and fetching of models. Every process has the same RPCs.

The gateway's own log is shown after a service has confirmed that the caller is an admin.
"""

from typing import Any

import grpc.aio
from aiohttp import web

from gateway.keys import CHANNELS, SESSIONS, SETTINGS, TRACKS
from gateway.session.credentials import call_metadata
from gateway.session.origins import expect_own_page
from gateway.streams import events
from gateway.transcoding.messages import json_response, query_of
from services.common.errors import NotFoundError
from services.common.rpc.operations_service import list_log_records
from stemtube.analysis.v1 import analysis_pb2
from stemtube.operations.v1 import operations_pb2 as pb
from stemtube.operations.v1 import operations_pb2_grpc
from stemtube.separation.v1 import separation_pb2

PATH = "/api/v1/admin/services/{service}"
OWN = "gateway"
SERVICES = {
    "auth": SESSIONS,
    "download": TRACKS,
    "separation": separation_pb2.DESCRIPTOR.services_by_name["SeparationService"].full_name,
    "analysis": analysis_pb2.DESCRIPTOR.services_by_name["AnalysisService"].full_name,
}


async def log(request: web.Request) -> web.Response:
    """GET …/log: the last records of `?level=` and above that contain `?text=`.

    Raises:
        InvalidInputError: an unknown parameter or level (reason BAD_REQUEST).
        NotFoundError: no such service (reason NO_SUCH_SERVICE).
        grpc.aio.AioRpcError: PERMISSION_DENIED: the caller is not an admin.
    """
    query = query_of(request, "level", "text")
    asked = pb.ListLogRecordsRequest(level=query.get("level", ""), text=query.get("text", ""))
    own = request.match_info["service"] == OWN
    stub = _stub(request, "auth" if own else request.match_info["service"])
    seconds = request.app[SETTINGS].call_seconds
    answer = await stub.ListLogRecords(asked, timeout=seconds, metadata=call_metadata(request))
    return await json_response(list_log_records(asked) if own else answer)


async def work(request: web.Request) -> web.Response:
    """GET …/work: waiting and running jobs of all users.

    Raises:
        InvalidInputError: an unknown parameter (reason BAD_REQUEST).
        NotFoundError: no such service (reason NO_SUCH_SERVICE).
        grpc.aio.AioRpcError: PERMISSION_DENIED: the caller is not an admin; FAILED_PRECONDITION: there are no jobs.
    """
    query_of(request)
    stub = _stub(request, request.match_info["service"])
    seconds = request.app[SETTINGS].call_seconds
    answer = await stub.GetWork(pb.GetWorkRequest(), timeout=seconds, metadata=call_metadata(request))
    return await json_response(answer)


async def weights(request: web.Request) -> web.StreamResponse:
    """GET …/weights?model=: fetches a model's weights, as a stream of fractions.

    A stream is opened with GET, but this one changes something, so it is for our own pages like a write.

    Raises:
        PermissionDeniedError: another site's page may have sent it (reason BAD_ORIGIN).
    """
    expect_own_page(request)

    async def open_call() -> Any:
        query = query_of(request, "model")
        stub = _stub(request, request.match_info["service"])
        asked = pb.PullModelRequest(model=query.get("model", ""))
        seconds = request.app[SETTINGS].stream_seconds
        return stub.PullModel(asked, timeout=seconds, metadata=call_metadata(request))

    return await events.serve(request, open_call)


def _stub(request: web.Request, service: str) -> Any:
    if service not in SERVICES:
        raise NotFoundError(f"There is no such service; there are {', '.join(SERVICES)}.", "NO_SUCH_SERVICE")
    channel: grpc.aio.Channel = request.app[CHANNELS][SERVICES[service]]
    return operations_pb2_grpc.OperationsServiceStub(channel)


routes = [
    web.get(f"{PATH}/log", log),
    web.get(f"{PATH}/work", work),
    web.get(f"{PATH}/weights", weights, allow_head=False),
]

_ERROR = {"$ref": "#/components/responses/Error"}


def _parameter(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": {"type": "string"}}


def _operation(
    name: str, summary: str, response: str, services: tuple[str, ...], *parameters: dict[str, Any], stream: bool = False
) -> dict[str, Any]:
    service = {"name": "service", "in": "path", "required": True, "schema": {"type": "string", "enum": list(services)}}
    schema = {"$ref": f"#/components/schemas/stemtube.operations.v1.{response}"}
    media_type = "text/event-stream" if stream else "application/json"
    responses: dict[str, Any] = {"200": {"description": "The answer.", "content": {media_type: {"schema": schema}}}}
    if stream:
        responses["101"] = {"description": "A WebSocket that sends these messages as JSON texts."}
    return {
        "get": {
            "operationId": name,
            "tags": ["AuthService"],
            "summary": summary,
            "parameters": [service, *parameters],
            "responses": {**responses, "404": _ERROR, "default": _ERROR},
        }
    }


MESSAGES = [
    pb.DESCRIPTOR.message_types_by_name[name]
    for name in ("ListLogRecordsResponse", "GetWorkResponse", "PullModelResponse")
]
OPENAPI: dict[str, Any] = {
    f"{PATH}/log": _operation(
        "ListLogRecords",
        "The last log records of a process, newest first. For admins.",
        "ListLogRecordsResponse",
        (OWN, *SERVICES),
        _parameter("level", "debug, info, warning, error or critical: of that level and above."),
        _parameter("text", "A text in the record, in upper or lower case."),
    ),
    f"{PATH}/work": _operation(
        "GetWork",
        "The waiting and running jobs of a service, for all users. For admins.",
        "GetWorkResponse",
        tuple(SERVICES),
    ),
    f"{PATH}/weights": _operation(
        "PullModel",
        "Fetches the weights of a model. The progress is a stream of events. For admins.",
        "PullModelResponse",
        ("separation", "analysis"),
        _parameter("model", "A separation model, an analysis backend that has weights, or BACKEND/MODEL."),
        stream=True,
    ),
}
