"""All services of the library on one server."""

from importlib.resources import files
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.rpc.auth import PublicKeys, TokenVerifier
from services.common.rpc.client import open_channel
from services.common.rpc.draining import Draining
from services.common.rpc.server import start
from services.download.config import DownloadSettings
from services.download.servicers import NAMES
from tests.download.conftest import RunningLibrary
from tests.download.rpcs import running_servicers

PACKAGE = "stemtube.download.v1"


def rpcs() -> dict[str, list[str]]:
    """The RPCs of each service in the library's contract."""
    contract = FileDescriptorSet.FromString((files("stemtube") / "stemtube.binpb").read_bytes())
    return {
        f"{PACKAGE}.{service.name}": [method.name for method in service.method]
        for file in contract.file
        if file.package == PACKAGE
        for service in file.service
    }


async def test_each_rpc_of_the_contract_is_served_and_needs_a_token(
    library: RunningLibrary, settings: DownloadSettings
) -> None:
    async def keys() -> PublicKeys:
        return {}

    assert set(NAMES) == set(rpcs())
    async with running_servicers(library, settings) as servicers:
        server = await start(
            servicers.service(),
            listen="127.0.0.1:0",
            health_listen="127.0.0.1:0",
            verifier=TokenVerifier(keys),
            draining=Draining(),
        )
        async with open_channel(f"127.0.0.1:{server.port}") as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            for service, names in rpcs().items():
                answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
                for name in names:
                    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{service}/{name}")
                    with pytest.raises(grpc.aio.AioRpcError) as refused:
                        await call(b"", timeout=20)
                    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED, name
        await server.stop(0.1)
