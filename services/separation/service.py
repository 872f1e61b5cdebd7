"""The separation service's RPCs. They check requests and queue jobs; `worker.py` does the work."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from services.common.errors import InvalidInputError, NotFoundError
from services.common.jobs.messages import availability_message, check_ids, job_message, queue_priority
from services.common.jobs.queue import JobQueue, job_key
from services.common.jobs.records import JobRecord
from services.common.jobs.requests import request_digest
from services.common.limits import MAX_OVERLAP, MAX_SHIFTS
from services.common.rpc.auth import require_service
from services.common.rpc.draining import Draining
from services.common.storage.objects import ObjectStore
from services.common.weights.store import WeightStore
from services.separation.models import registry
from services.separation.presets import PRESETS, of_quality
from services.separation.stems import REST, Rest, wanted_stems
from stemtube.common.v1 import provenance_pb2
from stemtube.separation.v1 import separation_pb2 as pb
from stemtube.separation.v1 import separation_pb2_grpc

NAME = "stemtube.separation.v1.SeparationService"
KIND = "separation"
ASKING_THREADS = 8
RESTS: "dict[pb.Rest.ValueType, Rest]" = {
    pb.REST_UNSPECIFIED: "sum",
    pb.REST_SUM: "sum",
    pb.REST_MINUS: "minus",
}


class SeparationService(separation_pb2_grpc.SeparationServiceServicer):
    """The servicer. The contract describes each RPC and its errors.

    Args:
        jobs: the job queue.
        objects: the object store.
        weights: shows which models are available.
        draining: ends watches when the server stops.
        order: the order of `auto`, as in the workers' settings.
        licences: licences that `auto` may take beside those that allow every use, as in the workers' settings.
    """

    def __init__(
        self,
        jobs: JobQueue,
        objects: ObjectStore,
        weights: WeightStore,
        draining: Draining,
        order: Sequence[str] = (),
        licences: Sequence[str] = (),
    ) -> None:
        self._jobs = jobs
        self._objects = objects
        self._weights = weights
        self._draining = draining
        self._order = order
        self._licences = licences

    async def CreateSeparation(self, request: pb.CreateSeparationRequest, _context: Any) -> pb.CreateSeparationResponse:
        require_service()
        check_ids(request_id=request.request_id, on_behalf_of=request.on_behalf_of)
        if request.quality not in PRESETS:
            raise InvalidInputError("unknown quality", "BAD_REQUEST")
        choice = await asyncio.to_thread(
            registry.choose, request.model or registry.AUTO, self._weights, self._order, self._licences
        )
        entry = choice.entry
        stems = _wanted(list(request.stems), entry.stems)
        options = _options(request, entry.overlap)
        if not await self._objects.exists(request.audio_key):
            raise NotFoundError("There is no such audio object.", "NO_SUCH_OBJECT")
        auto = request.model in ("", registry.AUTO)
        digest = request_digest(request)
        record = await self._jobs.submit(
            KIND,
            {
                "audio_key": request.audio_key,
                "auto": auto,
                "made_by": choice.made_by,
                "stems": stems,
                **options,
            },
            key=job_key(KIND, request.audio_key, entry.name, entry.version, auto, stems, options),
            subject=request.audio_key,
            user=request.on_behalf_of,
            request_id=request.request_id,
            priority=queue_priority(request.priority),
            reusable=self._is_good,
            digest=digest,
        )
        return pb.CreateSeparationResponse(separation=_message(record))

    async def GetSeparation(self, request: pb.GetSeparationRequest, _context: Any) -> pb.GetSeparationResponse:
        require_service()
        return pb.GetSeparationResponse(separation=_message(await self._jobs.get(request.separation_id)))

    async def WatchSeparation(
        self, request: pb.WatchSeparationRequest, _context: Any
    ) -> AsyncIterator[pb.WatchSeparationResponse]:
        require_service()
        async for record in self._draining.watch(self._jobs.watch(request.separation_id)):
            yield pb.WatchSeparationResponse(separation=_message(record))

    async def CancelSeparation(self, request: pb.CancelSeparationRequest, _context: Any) -> pb.CancelSeparationResponse:
        require_service()
        check_ids(request_id=request.request_id)
        await self._jobs.cancel_request(request.request_id)
        record = await self._jobs.give_up_result(request.request_id)
        stems = (record.result or {}).get("stems", []) if record else []
        return pb.CancelSeparationResponse(unneeded=[pb.Stem(**stem) for stem in stems])

    async def ListModels(self, _request: pb.ListModelsRequest, _context: Any) -> pb.ListModelsResponse:
        models = await asyncio.to_thread(_models, self._weights, self._order, self._licences)
        return pb.ListModelsResponse(models=models)

    async def _is_good(self, record: JobRecord) -> bool:
        """Whether a kept separation used the wanted model, and all its stems are still stored."""
        result = record.result or {}
        stems = result.get("stems", [])
        found = await asyncio.gather(*(self._objects.exists(stem["audio_key"]) for stem in stems))
        as_wanted = result.get("made_by", {}).get("model") == record.payload["made_by"]["model"]
        return as_wanted and bool(found) and all(found)


def _wanted(asked: list[str], given: tuple[str, ...]) -> list[str]:
    """The stems to make, in the model's order. Those of a user's own model cannot be checked before it is loaded."""
    if not given:
        return sorted(set(asked))
    if unknown := {stem for stem in asked if stem.removeprefix(REST) not in given}:
        raise InvalidInputError(
            f"the model has no stem {', '.join(sorted(unknown))}; it has {', '.join(given)}", "UNKNOWN_STEM"
        )
    return wanted_stems(asked, given)


def _options(request: pb.CreateSeparationRequest, overlap: float | None) -> dict[str, Any]:
    """The options of the model: those of the request, else those of its quality.

    Args:
        request: the request.
        overlap: the overlap that the model's authors recommend, if they do; see `of_quality`.
    """
    options = of_quality(request.quality, overlap)
    if request.HasField("shifts"):
        options = replace(options, shifts=request.shifts)
    if request.HasField("overlap"):
        options = replace(options, overlap=request.overlap)
    if options.shifts > MAX_SHIFTS or options.overlap > MAX_OVERLAP:
        raise InvalidInputError(
            f"shifts must be at most {MAX_SHIFTS}, and overlap at most {MAX_OVERLAP}: both multiply the work",
            "INVALID_OPTION",
        )
    if request.rest not in RESTS:
        raise InvalidInputError("unknown rest", "BAD_REQUEST")
    return {"shifts": options.shifts, "overlap": options.overlap, "rest": RESTS[request.rest]}


def _models(weights: WeightStore, order: Sequence[str], licences: Sequence[str]) -> list[pb.Model]:
    default = registry.choose(registry.AUTO, weights, order, licences).entry.name
    messages = []
    names = registry.names(weights)
    with ThreadPoolExecutor(ASKING_THREADS) as pool:  # hubs that do not answer take 5 s each
        answers = list(pool.map(lambda name: registry.availability(name, weights), names))
    for name, usable in zip(names, answers, strict=True):
        entry = registry.entry(name, weights)
        messages.append(
            pb.Model(
                name=name,
                stems=entry.stems,
                license=entry.licence,
                version=entry.version,
                availability=availability_message(usable),
                default=name == default,
            )
        )
    return messages


def _message(record: JobRecord) -> pb.Separation:
    maker = (record.result or record.payload)["made_by"]
    stems = (record.result or record.detail).get("stems", [])
    live = record.detail.get("live") if record.state == "running" else None
    return pb.Separation(
        job=job_message(record),
        live=pb.LiveStems(**live) if live else None,
        model=maker["model"],
        stems=[pb.Stem(**stem) for stem in stems],
        made_by=provenance_pb2.Provenance(**maker),
    )
