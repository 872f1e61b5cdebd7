"""Jobs at the separation and analysis services while these do not answer."""

import asyncio
from typing import Any

import grpc.aio
import pytest
from structlog.testing import capture_logs

from services.download.pipeline.remote import RemoteJobs
from stemtube.analysis.v1 import analysis_pb2
from stemtube.separation.v1 import separation_pb2


class Nobody:
    async def metadata(self) -> tuple[()]:
        return ()


@pytest.mark.parametrize(
    ("service", "call", "request_"),
    [
        ("separation", RemoteJobs.separate, separation_pb2.CreateSeparationRequest()),
        ("analysis", RemoteJobs.analyse, analysis_pb2.CreateAnalysisRequest()),
    ],
)
async def test_the_log_names_the_service_that_is_waited_for(service: str, call: Any, request_: Any) -> None:
    away = asyncio.Event()
    async with grpc.aio.insecure_channel("127.0.0.1:1") as nowhere:
        remote = RemoteJobs(nowhere, nowhere, Nobody())  # type: ignore[arg-type]
        with capture_logs() as lines:
            waiting = asyncio.create_task(call(remote, request_, None, away.set))
            async with asyncio.timeout(30):
                await away.wait()
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
    told = [line for line in lines if line["event"] == "waiting for a service"]
    assert [(line["called"], line["log_level"]) for line in told] == [(service, "info")]
