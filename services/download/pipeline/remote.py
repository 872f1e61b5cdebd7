"""Runs jobs of the separation and analysis services, and follows them to their end through restarts of the services."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc.aio
import structlog

from services.common.errors import Code, StemTubeError
from services.common.jobs.states import FINISHED_NUMBERS
from services.common.observe import request_context
from services.common.rpc.auth import ServiceIdentity
from services.common.rpc.client import CALL_SECONDS, domain_error
from stemtube.analysis.v1 import analysis_pb2, analysis_pb2_grpc
from stemtube.separation.v1 import separation_pb2, separation_pb2_grpc

log = structlog.get_logger(__name__)

UNAVAILABLE_CODES = (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED, Code.UNKNOWN, Code.UNAUTHENTICATED)
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.2, 5.0
CANCEL_SECONDS = 5.0

OnAway = Callable[[], None]


class RemoteJobs:
    """Creates, follows and cancels jobs of the two services."""

    def __init__(self, separation: grpc.aio.Channel, analysis: grpc.aio.Channel, identity: ServiceIdentity) -> None:
        self._separation: Any = separation_pb2_grpc.SeparationServiceStub(separation)
        self._analysis: Any = analysis_pb2_grpc.AnalysisServiceStub(analysis)
        self._identity = identity

    async def separate(
        self,
        request: separation_pb2.CreateSeparationRequest,
        on_update: Callable[[separation_pb2.Separation], Awaitable[None]],
        on_away: OnAway,
    ) -> separation_pb2.Separation:
        """Has a mix separated.

        Args:
            request: must have the same `request_id` after a restart of this process.
            on_update: called with each change, including the last one.
            on_away: called when the service does not answer, before each retry.

        Returns:
            The separation in its final state.

        Raises:
            StemTubeError: the service refuses the request.
        """
        created = await self._call_with_retries("separation", self._separation.CreateSeparation, request, on_away)
        separation_id = created.separation.job.id
        watch = separation_pb2.WatchSeparationRequest(separation_id=separation_id)
        latest: separation_pb2.Separation = created.separation
        async for answer in self._follow("separation", self._separation.WatchSeparation, watch, on_away):
            latest = answer.separation
            await on_update(latest)
            if latest.job.state in FINISHED_NUMBERS:
                break
        return latest

    async def analyse(
        self,
        request: analysis_pb2.CreateAnalysisRequest,
        on_update: Callable[[analysis_pb2.Analysis], Awaitable[None]],
        on_away: OnAway,
    ) -> analysis_pb2.Analysis:
        """Has audio analysed; like `separate`. Each part's result is in only one of the updates."""
        created = await self._call_with_retries("analysis", self._analysis.CreateAnalysis, request, on_away)
        watch = analysis_pb2.WatchAnalysisRequest(analysis_id=created.analysis.job.id)
        latest: analysis_pb2.Analysis = created.analysis
        async for answer in self._follow("analysis", self._analysis.WatchAnalysis, watch, on_away):
            latest = answer.analysis
            await on_update(latest)
            if latest.job.state in FINISHED_NUMBERS:
                break
        return latest

    async def _metadata(self) -> tuple[tuple[str, str], ...]:
        """The caller's token, and the ids of request and track, which the other service logs."""
        return (*await self._identity.metadata(), *request_context.metadata())

    async def cancel(self, part: str, request_id: str) -> list[str] | None:
        """Withdraws a request.

        Returns:
            Keys of result objects that no other request needs; None if the service does not answer.
        """
        try:
            metadata = await self._metadata()
            if not part.startswith("separation"):
                withdraw = analysis_pb2.CancelAnalysisRequest(request_id=request_id)
                await self._analysis.CancelAnalysis(withdraw, metadata=metadata, timeout=CANCEL_SECONDS)
                return []
            cancel = separation_pb2.CancelSeparationRequest(request_id=request_id)
            answer = await self._separation.CancelSeparation(cancel, metadata=metadata, timeout=CANCEL_SECONDS)
            return [key for stem in answer.unneeded for key in (stem.audio_key, stem.peaks_key)]
        except (grpc.aio.AioRpcError, StemTubeError) as error:
            self._error(error)
            return None

    async def _call_with_retries(self, service: str, call: Any, request: Any, on_away: OnAway) -> Any:
        wait = FIRST_WAIT_SECONDS
        while True:
            try:
                return await call(request, metadata=await self._metadata(), timeout=CALL_SECONDS)
            except (grpc.aio.AioRpcError, StemTubeError) as error:
                wait = await self._pause(service, error, wait, on_away)

    async def _follow(self, service: str, call: Any, request: Any, on_away: OnAway) -> AsyncIterator[Any]:
        wait = FIRST_WAIT_SECONDS
        while True:
            try:
                async for answer in call(request, metadata=await self._metadata()):
                    wait = FIRST_WAIT_SECONDS
                    yield answer
            except (grpc.aio.AioRpcError, StemTubeError) as error:
                wait = await self._pause(service, error, wait, on_away)

    async def _pause(
        self, service: str, cause: grpc.aio.AioRpcError | StemTubeError, wait: float, on_away: OnAway
    ) -> float:
        error = self._error(cause)
        if error.code not in UNAVAILABLE_CODES:
            raise error from cause
        tell = log.info if wait == FIRST_WAIT_SECONDS else log.debug  # a thousand jobs may wait; each logs it once
        # Not `service`, which is the name of the logging process.
        tell("waiting for a service", called=service, reason=error.reason, detail=error.message, seconds=wait)
        on_away()
        await asyncio.sleep(wait)
        return min(wait * 2, LONGEST_WAIT_SECONDS)

    def _error(self, cause: grpc.aio.AioRpcError | StemTubeError) -> StemTubeError:
        """The domain error of a call; if our token was refused, the next call sends another."""
        error = domain_error(cause) if isinstance(cause, grpc.aio.AioRpcError) else cause
        if error.code is Code.UNAUTHENTICATED:
            self._identity.refused()
        return error
