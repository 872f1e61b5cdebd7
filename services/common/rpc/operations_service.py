"""RPCs for admins about a process: its log, its jobs, its models. Every service serves them besides its own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp

from services.common.compute.threads import in_own_thread
from services.common.errors import InvalidInputError, PreconditionError, StoppedError
from services.common.observe import audit, recent_log
from services.common.rpc.auth import require_admin
from services.common.rpc.server import Service
from services.common.weights.store import Weights, WeightStore
from stemtube.operations.v1 import operations_pb2 as pb
from stemtube.operations.v1 import operations_pb2_grpc

NAME = "stemtube.operations.v1.OperationsService"
MAX_RECORDS = 300
REPORT_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Models:
    """The models that a process can fetch.

    Args:
        store: of the weights.
        find: returns the weights of a model by its name; may block.
    """

    store: WeightStore
    find: Callable[[str], Weights]


class OperationsService(operations_pb2_grpc.OperationsServiceServicer):
    """The servicer. The contract describes each RPC and its errors."""

    def __init__(self, work: Callable[[], Awaitable[pb.GetWorkResponse]] | None, models: Models | None) -> None:
        self._work = work
        self._models = models

    async def ListLogRecords(self, request: pb.ListLogRecordsRequest, _context: Any) -> pb.ListLogRecordsResponse:
        require_admin()
        return list_log_records(request)

    async def GetWork(self, _request: pb.GetWorkRequest, _context: Any) -> pb.GetWorkResponse:
        require_admin()
        if self._work is None:
            raise PreconditionError("This service has no jobs.", "NO_JOBS")
        return await self._work()

    async def PullModel(self, request: pb.PullModelRequest, _context: Any) -> AsyncIterator[pb.PullModelResponse]:
        require_admin()
        if self._models is None:
            raise PreconditionError("This service has no models.", "NO_MODELS")
        weights = await asyncio.to_thread(self._models.find, request.model)
        audit.record("model fetched", model=weights.name)
        self._models.store.forget()
        fetching = _Fetching(self._models.store, weights)
        async for fraction in fetching.fractions():
            yield pb.PullModelResponse(fraction=fraction)


class _Fetching:
    """One download in a thread; it stops when nobody follows it any more."""

    def __init__(self, store: WeightStore, weights: Weights) -> None:
        self._store = store
        self._weights = weights
        self._fraction = 0.0
        self._stopped = False

    async def fractions(self) -> AsyncIterator[float]:
        """Yields the fraction that has arrived, 1 at the end.

        Raises:
            WeightsMissingError: the model is not available.
        """
        work = asyncio.create_task(in_own_thread(self._store.fetch, self._weights, self._set_fraction))
        try:
            while not work.done():
                yield self._fraction
                await asyncio.wait({work}, timeout=REPORT_SECONDS)
            await work
            yield 1.0
        finally:
            self._stopped = True

    def _set_fraction(self, fraction: float) -> None:
        if self._stopped:
            raise StoppedError("Nobody waits for this model any more.")
        self._fraction = fraction


def list_log_records(request: pb.ListLogRecordsRequest) -> pb.ListLogRecordsResponse:
    """This process's last log records.

    Raises:
        InvalidInputError: an unknown level (reason BAD_REQUEST).
    """
    if request.level and request.level not in recent_log.LEVELS:
        raise InvalidInputError(f"level is one of {', '.join(recent_log.LEVELS)}", "BAD_REQUEST")
    found = islice(recent_log.recent(request.level, request.text), MAX_RECORDS)
    return pb.ListLogRecordsResponse(records=[_message(record) for record in found])


def _message(record: recent_log.LogRecord) -> pb.LogRecord:
    time = Timestamp()
    time.FromDatetime(record.time)
    return pb.LogRecord(time=time, level=record.level, event=record.event, fields=record.fields)


def with_operations(
    service: Service, work: Callable[[], Awaitable[pb.GetWorkResponse]] | None = None, models: Models | None = None
) -> Service:
    """A service with the RPCs for admins about its process.

    Args:
        service: the service to serve.
        work: returns the backlog of the service's queue, if it has one.
        models: those that can be fetched here, if any.
    """

    def register(server: grpc.aio.Server) -> None:
        service.register(server)
        operations_pb2_grpc.add_OperationsServiceServicer_to_server(OperationsService(work, models), server)

    return replace(service, register=register, further=(*service.further, NAME))
