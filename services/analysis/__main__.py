"""Runs the analysis service: `python -m services.analysis [all|serve|work]`."""

from services.analysis.backends import registry
from services.analysis.config import AnalysisSettings
from services.analysis.service import KIND, NAME, AnalysisService
from services.analysis.worker import AnalysisWorker
from services.common.compute.confinement_check import expect_confinement
from services.common.jobs.queue import JobQueue
from services.common.process import run
from services.common.rpc.draining import Draining
from services.common.rpc.operations_service import Models
from services.common.rpc.runtime import VerifiedCallers, run_with_jobs
from services.common.rpc.server import Service
from services.common.storage.disk_room import needs_of
from services.common.storage.marked_store import open_marked_store
from services.common.weights.store import WeightStore
from stemtube.analysis.v1 import analysis_pb2_grpc


async def _run(settings: AnalysisSettings, *, serves: bool, works: bool) -> None:
    if works:
        await expect_confinement(settings.decoder)
    section = settings.analysis
    objects = open_marked_store(settings)
    needs = needs_of(objects, settings.data_dir)
    worker = AnalysisWorker(settings) if works else None
    jobs = JobQueue(
        settings.database_url,
        "analysis",
        handlers={KIND: worker.handle} if worker else {},
        slots=1 if worker else 0,
        keep_seconds=section.keep_days * 86400,
        needs=needs,
    )
    draining = Draining()
    weights = WeightStore(settings.weights_dir, offline=settings.offline)
    servicer = AnalysisService(
        jobs, objects, weights, section.device, draining, section.language_model.endpoint, section.auto.order
    )
    await run_with_jobs(
        VerifiedCallers(settings, "analysis"),
        jobs,
        worker,
        Service(NAME, lambda server: analysis_pb2_grpc.add_AnalysisServiceServicer_to_server(servicer, server))
        if serves
        else None,
        listen=section.listen,
        health_listen=section.health_listen,
        draining=draining,
        grace_seconds=section.grace_seconds,
        problem=needs if works else objects.problem,
        engines=worker.engines if worker else None,
        models=Models(weights, registry.weights),
    )


if __name__ == "__main__":
    run(
        "services.analysis",
        "Finds beats, key, chords, structure, lyrics. Roles: all (one machine), serve (gRPC API), work (takes jobs).",
        AnalysisSettings,
        {
            "all": lambda settings: _run(settings, serves=True, works=True),
            "serve": lambda settings: _run(settings, serves=True, works=False),
            "work": lambda settings: _run(settings, serves=False, works=True),
        },
    )
