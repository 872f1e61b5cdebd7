"""The service as a whole."""

from pathlib import Path
from typing import Any

import aiohttp
import grpc
import grpc.aio
import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from structlog.testing import capture_logs

from services.auth.rpcs import NAMES, PUBLIC
from services.common.errors import Code
from services.common.rpc.client import AuthClient, RemoteError, open_channel
from stemtube.auth.v1 import access_token_pb2
from tests.auth.calling import refused
from tests.auth.running import RunningAuth, auth_settings, database_file, running_auth


async def test_every_rpc_but_the_public_ones_refuses_a_stranger(auth: RunningAuth) -> None:
    services = [descriptor_pool.Default().FindServiceByName(name) for name in NAMES]
    paths = {f"/{service.full_name}/{method.name}" for service in services for method in service.methods}
    assert set(PUBLIC) < paths
    for path in paths - set(PUBLIC):
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = auth.channel.unary_unary(path)
        error = await refused(call(b""))
        assert error.code is Code.UNAUTHENTICATED


async def test_a_restart_keeps_users_keys_and_sessions(tmp_path: Path) -> None:
    async with running_auth(auth_settings(tmp_path)) as auth:
        session = await auth.login()
        keys = await auth.stub.ListSigningKeys(access_token_pb2.ListSigningKeysRequest())
    async with running_auth(auth_settings(tmp_path, "another password is not taken")) as auth:
        assert await auth.stub.ListSigningKeys(access_token_pb2.ListSigningKeysRequest()) == keys
        assert await auth.me(session.access_token) == session.user
        assert (await auth.refresh(session.refresh_token)).user == session.user
        assert (await auth.login()).user == session.user


async def test_replicas_accept_each_others_tokens(tmp_path: Path) -> None:
    async with running_auth(auth_settings(tmp_path)) as one, running_auth(auth_settings(tmp_path)) as other:
        session = await one.login()
        assert await other.me(session.access_token) == session.user
        assert await one.me((await other.refresh(session.refresh_token)).access_token) == session.user


async def test_an_internal_error_is_logged_and_hidden_from_the_client(auth: RunningAuth) -> None:
    with database_file(auth) as file:
        file.execute("DROP TABLE users")
    file.close()
    with capture_logs() as lines:
        error = await refused(auth.login())
    assert (error.code, error.reason) == (Code.INTERNAL, "INTERNAL")
    assert "users" not in error.message
    assert error.metadata == {}
    assert "an RPC ended with an unexpected error" in [line["event"] for line in lines if line.get("exc_info")]


async def test_health_reflection_and_metrics_answer_without_a_token(auth: RunningAuth) -> None:
    health: Any = health_pb2_grpc.HealthStub(auth.channel)
    answer = await health.Check(health_pb2.HealthCheckRequest(service=NAMES[-1]))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING

    request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=NAMES[-1])
    channel: Any = auth.channel
    reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    files = [
        FileDescriptorProto.FromString(file)
        async for answer in reflection.ServerReflectionInfo(iter([request]))
        for file in answer.file_descriptor_response.file_descriptor_proto
    ]
    assert any(service.name == "UserImportService" for file in files for service in file.service)

    async with aiohttp.ClientSession(f"http://127.0.0.1:{auth.server.health_port}") as http:
        assert (await http.get("/readyz")).status == 200
        assert "stemtube_rpcs_total" in await (await http.get("/metrics")).text()


async def test_a_caller_is_told_that_auth_is_unavailable() -> None:
    async with open_channel("127.0.0.1:1") as channel:
        with pytest.raises(RemoteError) as outage:
            await AuthClient(channel, "download", "secret").signing_keys()
        assert outage.value.code is Code.UNAVAILABLE
