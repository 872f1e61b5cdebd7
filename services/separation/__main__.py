"""Runs the separation service: `python -m services.separation [all|serve|work]`."""

from services.common.compute.confinement_check import expect_confinement
from services.common.jobs.queue import JobQueue
from services.common.process import run
from services.common.rpc.draining import Draining
from services.common.rpc.operations_service import Models
from services.common.rpc.runtime import VerifiedCallers, run_with_jobs
from services.common.rpc.server import Service
from services.common.storage.disk_room import needs_of
from services.common.storage.marked_store import open_marked_store
from services.common.weights.catalogue import parse_order
from services.common.weights.store import WeightStore
from services.separation.config import SeparationSettings
from services.separation.models import registry
from services.separation.service import KIND, NAME, SeparationService
from services.separation.sweep import sweep
from services.separation.worker import SeparationWorker
from stemtube.separation.v1 import separation_pb2_grpc


async def _run(settings: SeparationSettings, *, serves: bool, works: bool) -> None:
    if works:
        await expect_confinement(settings.decoder)
    section = settings.separation
    objects = open_marked_store(settings)
    needs = needs_of(objects, settings.data_dir)
    worker = SeparationWorker(settings, objects) if works else None
    jobs = JobQueue(
        settings.database_url,
        "separation",
        handlers={KIND: worker.handle} if worker else {},
        slots=worker.slots if worker else 0,
        keep_seconds=section.keep_days * 86400,
        needs=needs,
        maintenance_seconds=section.maintenance_seconds,
    )
    if works:
        jobs.add_maintenance(lambda: sweep(objects, jobs))
    draining = Draining()
    weights = WeightStore(settings.weights_dir, offline=settings.offline)
    servicer = SeparationService(
        jobs, objects, weights, draining, parse_order(section.auto), parse_order(section.licences)
    )
    await run_with_jobs(
        VerifiedCallers(settings, "separation"),
        jobs,
        worker,
        Service(NAME, lambda server: separation_pb2_grpc.add_SeparationServiceServicer_to_server(servicer, server))
        if serves
        else None,
        listen=section.listen,
        health_listen=section.health_listen,
        draining=draining,
        grace_seconds=section.grace_seconds,
        problem=needs if works else objects.problem,
        engines=worker.engines if worker else None,
        models=Models(weights, lambda name: registry.weights(name, weights)),
    )


if __name__ == "__main__":
    run(
        "services.separation",
        "Splits mixes into stems. Roles: all (on one machine), serve (gRPC API), work (runs jobs; on a GPU's machine).",
        SeparationSettings,
        {
            "all": lambda settings: _run(settings, serves=True, works=True),
            "serve": lambda settings: _run(settings, serves=True, works=False),
            "work": lambda settings: _run(settings, serves=False, works=True),
        },
    )
