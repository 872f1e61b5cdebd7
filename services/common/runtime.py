"""Runs a service that has jobs: queue, worker and gRPC server start and end in the right order."""

from typing import Protocol

from services.common import telemetry
from services.common.auth import ServiceIdentity, TokenVerifier
from services.common.client import AuthClient, open_channel
from services.common.config import Settings
from services.common.jobs import JobQueue
from services.common.server import Draining, Service, serve, stop_signal


class Worker(Protocol):
    """What does the jobs of a service."""

    async def close(self) -> None:
        """Frees what the worker holds."""
        ...


class Callers:
    """How a service knows its callers, and makes itself known to the services that it calls."""

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


async def run_with_jobs(
    callers: Callers,
    jobs: JobQueue,
    worker: Worker | None,
    service: Service | None,
    *,
    listen: str,
    health_listen: str,
    draining: Draining,
    grace_seconds: float,
) -> None:
    """Runs until SIGTERM or SIGINT.

    Args:
        callers: who may call.
        jobs: started and closed here.
        worker: closed here; None in a process that only serves.
        service: what is served; None in a process that only works.
        listen: host:port of gRPC.
        health_listen: host:port of /healthz, /readyz and /metrics.
        draining: shared with the servicer's streams.
        grace_seconds: time for RPCs, then for jobs in hand, to end.

    Raises:
        OSError: an address is taken.
    """
    await jobs.start()
    try:
        if service:
            await serve(
                service,
                listen=listen,
                health_listen=health_listen,
                verifier=callers.verifier,
                draining=draining,
                network=callers.network,
                grace_seconds=grace_seconds,
                when_draining=lambda: jobs.stop_working(grace_seconds),
            )
        else:
            health = await telemetry.HealthServer.start(health_listen)
            health.ready = True
            await stop_signal()
            await health.stop()
    finally:
        await jobs.close(grace_seconds if worker else 0.0)
        if worker:
            await worker.close()
        await callers.close()
