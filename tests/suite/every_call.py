"""Every RPC and every route of the suite, with a minimal request for each."""

import re
from typing import Any

import grpc.aio
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.common.errors import Code
from services.common.rpc.auth import bearer
from services.common.rpc.client import domain_error
from tests.suite.client import Json

INFRASTRUCTURE = {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}


async def reflected(channel: grpc.aio.Channel) -> list[MethodDescriptor]:
    """All RPCs that a server lists by reflection."""
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[arg-type]  # the types know no aio

    async def ask(**what: Any) -> Any:
        answers = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(**what)]))
        return await anext(aiter(answers))

    names = [one.name for one in (await ask(list_services="")).list_services_response.service]
    pool, known = descriptor_pool.DescriptorPool(), set()

    async def learn(proto: FileDescriptorProto) -> None:
        for needed in proto.dependency:
            if needed not in known:
                known.add(needed)
                answer = (await ask(file_by_filename=needed)).file_descriptor_response.file_descriptor_proto
                for found in answer:
                    await learn(FileDescriptorProto.FromString(found))
        pool.Add(proto)

    for name in names:
        answer = (await ask(file_containing_symbol=name)).file_descriptor_response.file_descriptor_proto
        for found in answer:
            proto = FileDescriptorProto.FromString(found)
            if proto.name not in known:
                known.add(proto.name)
                await learn(proto)
    assert set(names) > INFRASTRUCTURE
    return [method for name in names if name not in INFRASTRUCTURE for method in pool.FindServiceByName(name).methods]


async def refusal(channel: grpc.aio.Channel, method: MethodDescriptor, request: bytes, token: str) -> tuple[Code, str]:
    """The status code and the reason of an RPC's error; (0, "") if it succeeds."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    metadata = bearer(token) if token else ()
    try:
        match method.client_streaming, method.server_streaming:
            case False, False:
                unary: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
                await unary(request, metadata=metadata, timeout=20)
            case True, False:
                sending: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(path)
                await sending(iter([request]), metadata=metadata, timeout=20)
            case _, True:
                streaming: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(path)
                call = streaming(request, metadata=metadata, timeout=20)
                await call.read()
                call.cancel()
    except grpc.aio.AioRpcError as error:
        found = domain_error(error)
        return found.code, found.reason
    return Code.UNKNOWN, ""


TUS = {"Tus-Resumable": "1.0.0", "Upload-Length": "1", "Upload-Offset": "0", "X-HTTP-Method-Override": "DELETE"}


def arguments(verb: str, path: str, operation: Json) -> dict[str, Any]:
    """Enough for a request to reach the check of its sender."""
    if path.startswith("/api/v1/uploads"):
        body = {"data": b"x"} if verb == "PATCH" else {}
        return {"headers": TUS | {"Content-Type": "application/offset+octet-stream"}, **body}
    if "application/octet-stream" in operation.get("requestBody", {}).get("content", {}):
        return {"params": {"filename": "x"}, "data": b"x"}
    return {"json": {}} if verb in ("POST", "PUT", "PATCH") else {}


def fill(path: str, ids: dict[str, str]) -> str:
    """A path with its variables replaced by ids."""
    others = {
        "part": "PART_KEY",
        "model": "spleeter_2stems",
        "stem": "vocals",
        "number": "0",
        "format": "json",
        "service": "download",
    }
    # An upload with an invalid id is refused before its sender is checked.
    others["upload_id"] = "0" * 32
    return re.sub(r"\{(\w+)\}", lambda variable: ids.get(variable[1]) or others.get(variable[1], "x"), path)
