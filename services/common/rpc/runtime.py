"""Runs a service that has jobs: starts and ends queue, worker and gRPC server in the right order."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from aiohttp import web

from services.common.compute.engines import Engines
from services.common.config import Settings
from services.common.errors import DataLossError, UnavailableError
from services.common.jobs import metrics
from services.common.jobs.messages import job_message
from services.common.jobs.queue import JobQueue
from services.common.limits import MAX_WORK_ITEMS
from services.common.observe import telemetry
from services.common.rpc.auth import ServiceIdentity, TokenVerifier
from services.common.rpc.client import AuthClient, open_channel
from services.common.rpc.draining import Draining
from services.common.rpc.operations_service import Models, with_operations
from services.common.rpc.server import Service, serve, stop_signal
from services.common.storage import damaged_files
from stemtube.operations.v1 import operations_pb2


class Worker(Protocol):
    """A service's worker, as far as it must be closed."""

    async def close(self) -> None:
        """Frees the resources of the worker."""
        ...


class VerifiedCallers:
    """Verifies the callers of a service, and holds the token with which the service calls others."""

    def __init__(self, settings: Settings, service: str) -> None:
        self.network = settings.network
        self._channel = open_channel(settings.address.auth, self.network.tls_dir)
        auth = AuthClient(self._channel, service, settings.shared_service_secret())
        self.identity = ServiceIdentity(auth.issue_token)
        self.verifier = TokenVerifier(
            auth.signing_keys,
            lambda: auth.ended_sessions(self.identity),
            refresh_seconds=self.network.auth_refresh_seconds,
        )

    async def close(self) -> None:
        """Closes the channel to auth."""
        await self._channel.close()


def queue_route(jobs: JobQueue) -> web.RouteDef:
    """GET /queue on the health address, for autoscalers; 503 while the database cannot be read.

    `unfinished` counts waiting and running jobs of all processes. An autoscaler that scales workers in proportion to it
    starts none without work, and removes none while its job runs.
    """

    async def queue(_request: web.Request) -> web.Response:
        try:
            backlog = await asyncio.to_thread(jobs.look)
        except (UnavailableError, DataLossError) as error:
            return web.json_response({"error": error.message}, status=503)
        return web.json_response(
            {
                "queued": backlog.queued,
                "running": backlog.running,
                "unfinished": backlog.queued + backlog.running,
                "oldestSeconds": round(backlog.oldest_seconds, 3),
            }
        )

    return web.get("/queue", queue)


async def work_of(jobs: JobQueue) -> operations_pb2.GetWorkResponse:
    """The waiting and running jobs, for admins.

    Raises:
        UnavailableError: the database is away.
    """
    backlog = await asyncio.to_thread(jobs.look)
    records = sorted(await jobs.unfinished(), key=lambda record: (record.state != "running", record.queue_position))
    return operations_pb2.GetWorkResponse(
        queued=backlog.queued,
        running=backlog.running,
        oldest_seconds=backlog.oldest_seconds,
        slots=jobs.slots,
        busy=jobs.busy,
        jobs=[
            operations_pb2.WorkItem(job=job_message(record), user_id=record.user) for record in records[:MAX_WORK_ITEMS]
        ],
    )


async def run_with_jobs(
    callers: VerifiedCallers,
    jobs: JobQueue,
    worker: Worker | None,
    service: Service | None,
    *,
    listen: str,
    health_listen: str,
    draining: Draining,
    grace_seconds: float,
    models: Models | None = None,
    problem: Callable[[], Awaitable[str]] | None = None,
    engines: Engines | None = None,
) -> None:
    """Runs until SIGTERM or SIGINT.

    Args:
        callers: verifies callers.
        jobs: started and closed here.
        worker: closed here; None in a process that only serves RPCs.
        service: the service to serve; None in a process that only runs jobs.
        listen: host:port of gRPC.
        health_listen: host:port of /healthz, /readyz and /metrics.
        draining: shared with the servicer's streams.
        grace_seconds: time for RPCs, then for running jobs, to end.
        models: those that admins can fetch here.
        problem: for /readyz: returns why requests cannot be served or jobs cannot run now, or an empty string.
        engines: the worker's engines; jobs are taken only while one can be used, and /readyz says why if none can.

    Raises:
        OSError: an address is taken.
    """
    health: telemetry.HealthServer | None = None

    async def problems() -> str:
        found = [await problem() if problem else "", engines.why_not() if engines else ""]
        return "; ".join(one for one in found if one)

    await jobs.start()
    try:
        if engines:
            engines.start(jobs.limit)
        if service:
            with metrics.queue_metrics(jobs.name, jobs.look):
                await serve(
                    with_operations(service, lambda: work_of(jobs), models),
                    listen=listen,
                    health_listen=health_listen,
                    verifier=callers.verifier,
                    draining=draining,
                    network=callers.network,
                    routes=[queue_route(jobs)],
                    grace_seconds=grace_seconds,
                    when_draining=lambda: jobs.stop_working(grace_seconds),
                    problem=problems,
                    database=jobs.file,
                )
        else:
            health = await telemetry.HealthServer.start(health_listen)
            health.problem = damaged_files.or_damage(jobs.file, problems)
            health.ready = True
            await stop_signal()
            health.ready = False
    finally:
        await jobs.close(grace_seconds if worker else 0.0)
        if health:  # stopped last, so that jobs can be watched while they end
            await health.stop()
        if worker:
            await worker.close()
        await callers.close()
