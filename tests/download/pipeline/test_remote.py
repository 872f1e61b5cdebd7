"""Calls to the other services with the library's own token."""
# ruff: noqa: N802  # RPCs are named in the contracts

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.common.rpc.auth import PublicKeys, ServiceIdentity, TokenVerifier
from services.common.rpc.client import open_channel
from services.common.rpc.draining import Draining
from services.common.rpc.server import Service, start
from services.download.pipeline.remote import RemoteJobs
from stemtube.job.v1 import job_pb2
from stemtube.separation.v1 import separation_pb2 as pb
from stemtube.separation.v1 import separation_pb2_grpc

DONE = pb.Separation(job=job_pb2.Job(id="s1", state=job_pb2.JOB_STATE_SUCCEEDED))


class Separations(separation_pb2_grpc.SeparationServiceServicer):
    """Separates at once, and accepts cancellations."""

    async def CreateSeparation(self, _request: Any, _context: Any) -> pb.CreateSeparationResponse:
        return pb.CreateSeparationResponse(separation=DONE)

    async def WatchSeparation(self, _request: Any, _context: Any) -> AsyncIterator[pb.WatchSeparationResponse]:
        yield pb.WatchSeparationResponse(separation=DONE)

    async def GetSeparation(self, _request: Any, _context: Any) -> pb.GetSeparationResponse:
        return pb.GetSeparationResponse(separation=DONE)

    async def ListModels(self, _request: Any, _context: Any) -> pb.ListModelsResponse:
        return pb.ListModelsResponse()

    async def CancelSeparation(self, _request: Any, _context: Any) -> pb.CancelSeparationResponse:
        return pb.CancelSeparationResponse()


class Keys:
    """The key that signs tokens, which can be withdrawn."""

    def __init__(self) -> None:
        self.key, self.number = Ed25519PrivateKey.generate(), 1

    def withdraw(self) -> None:
        self.key, self.number = Ed25519PrivateKey.generate(), self.number + 1

    async def public(self) -> PublicKeys:
        return {f"k{self.number}": self.key.public_key()}

    async def issue(self) -> tuple[str, float]:
        now = int(time.time())
        claims = {"iss": "stemtube-auth", "aud": "stemtube", "sub": "download", "kind": "service"}
        claims |= {"iat": now, "exp": now + 900}  # type: ignore[dict-item]
        return jwt.encode(claims, self.key, algorithm="EdDSA", headers={"kid": f"k{self.number}"}), 900.0


@pytest.mark.parametrize("call", ["separate", "cancel"])
async def test_work_continues_after_the_key_of_the_services_token_was_withdrawn(call: str) -> None:
    async def nothing(_separation: pb.Separation) -> None:
        pass

    keys = Keys()
    server = await start(
        Service(
            "stemtube.separation.v1.SeparationService",
            lambda server: separation_pb2_grpc.add_SeparationServiceServicer_to_server(Separations(), server),
        ),
        listen="127.0.0.1:0",
        health_listen="127.0.0.1:0",
        verifier=TokenVerifier(keys.public, refresh_seconds=0.0, retry_seconds=0.0),
        draining=Draining(),
    )
    async with asyncio.timeout(20), open_channel(f"127.0.0.1:{server.port}") as channel:
        jobs = RemoteJobs(channel, channel, ServiceIdentity(keys.issue, retry_seconds=0.0))
        assert await jobs.cancel("separation", "r1") == []
        keys.withdraw()
        if call == "separate":
            assert await jobs.separate(pb.CreateSeparationRequest(), nothing, lambda: None) == DONE
        else:
            assert [await jobs.cancel("separation", "r1") for _ in range(2)] == [None, []]
    await server.stop(0)
