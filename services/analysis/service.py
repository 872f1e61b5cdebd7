"""The analysis service's RPCs: they check requests and queue jobs, which `worker.py` runs."""

import asyncio
import json
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from itertools import pairwise
from typing import Any

from google.protobuf.json_format import ParseDict

from services.analysis.backends import registry
from services.analysis.backends.base import Endpoint
from services.analysis.backends.lyrics.text import check_text
from services.common.errors import InvalidInputError, NotFoundError
from services.common.jobs.messages import (
    availability_message,
    check_ids,
    job_message,
    message_json,
    queue_priority,
)
from services.common.jobs.queue import JobQueue, job_key
from services.common.jobs.records import JobRecord
from services.common.jobs.requests import request_digest
from services.common.jobs.states import FINISHED_NUMBERS
from services.common.parts import PART_NAMES, PART_NUMBERS, PARTS, USES_BEATS
from services.common.rpc.auth import require_service
from services.common.rpc.draining import Draining
from services.common.storage.objects import ObjectStore
from services.common.weights.store import Availability, WeightStore
from stemtube.analysis.v1 import analysis_pb2 as pb
from stemtube.analysis.v1 import analysis_pb2_grpc
from stemtube.job.v1 import job_pb2

NAME = "stemtube.analysis.v1.AnalysisService"
KIND = "analysis"
LANGUAGE = re.compile(r"([a-z]{2,3})?")
NO_LANGUAGE_MODEL = Availability(False, "no language model is set: see STEMTUBE_ANALYSIS__LANGUAGE_MODEL__URL")


class AnalysisService(analysis_pb2_grpc.AnalysisServiceServicer):
    """The servicer. The contract describes each RPC and its errors.

    Args:
        jobs: the queue.
        objects: where the audio is.
        weights: to find which models are available.
        device: the workers' setting; the best model depends on it.
        draining: ends watches when the server drains.
        language_model: the workers' setting; the best structure backend depends on it.
        order: the workers' setting for the order of `auto`.
    """

    def __init__(
        self,
        jobs: JobQueue,
        objects: ObjectStore,
        weights: WeightStore,
        device: str,
        draining: Draining,
        language_model: Endpoint | None = None,
        order: registry.Order = registry.NO_ORDER,
    ) -> None:
        self._jobs = jobs
        self._objects = objects
        self._weights = weights
        self._device = device
        self._draining = draining
        self._language_model = language_model
        self._order = order

    async def CreateAnalysis(self, request: pb.CreateAnalysisRequest, _context: Any) -> pb.CreateAnalysisResponse:
        require_service()
        check_ids(request_id=request.request_id, on_behalf_of=request.on_behalf_of)
        asked = [part.part for part in request.parts]
        if not asked or len(set(asked)) < len(asked) or not set(asked) <= set(PART_NAMES):
            raise InvalidInputError("parts must be known ones, at least one, each once", "BAD_REQUEST")
        choices = [
            await asyncio.to_thread(_choice, part, self._weights, self._device, self._language_model, self._order)
            for part in request.parts
        ]
        for key in (request.audio_key, *(choice["mix_key"] for choice in choices if "mix_key" in choice)):
            if not await self._objects.exists(key):
                raise NotFoundError("There is no such audio object.", "NO_SUCH_OBJECT")
        # The requested names are part of the key, because only an automatic choice may lead to a substitute.
        equal = sorted(_key(choice) for choice in choices)
        digest = await asyncio.to_thread(request_digest, request)
        record = await self._jobs.submit(
            KIND,
            {"audio_key": request.audio_key, "parts": choices},
            key=job_key(KIND, request.audio_key, equal),
            subject=request.audio_key,
            user=request.on_behalf_of,
            request_id=request.request_id,
            priority=queue_priority(request.priority),
            reusable=self._is_good,
            digest=digest,
        )
        return pb.CreateAnalysisResponse(analysis=_message(record))

    async def GetAnalysis(self, request: pb.GetAnalysisRequest, _context: Any) -> pb.GetAnalysisResponse:
        require_service()
        record = await self._jobs.get(request.analysis_id)
        analysis = _message(record)
        _add_results(analysis.parts, await self._jobs.outputs(record.id))
        return pb.GetAnalysisResponse(analysis=analysis)

    async def WatchAnalysis(
        self, request: pb.WatchAnalysisRequest, _context: Any
    ) -> AsyncIterator[pb.WatchAnalysisResponse]:
        require_service()
        async for analysis in self._draining.watch(self._watch(request.analysis_id)):
            yield pb.WatchAnalysisResponse(analysis=analysis)

    async def _watch(self, analysis_id: str) -> AsyncGenerator[pb.Analysis, None]:
        sent: set[pb.Part.ValueType] = set()
        async for record in self._jobs.watch(analysis_id):
            analysis = _message(record)
            ready = (status for status in analysis.parts if status.state == job_pb2.JOB_STATE_SUCCEEDED)
            if fresh := [status for status in ready if status.part not in sent]:
                _add_results(fresh, await self._jobs.outputs(analysis_id))
                sent |= {status.part for status in fresh}
            yield analysis

    async def CancelAnalysis(self, request: pb.CancelAnalysisRequest, _context: Any) -> pb.CancelAnalysisResponse:
        require_service()
        check_ids(request_id=request.request_id)
        await self._jobs.cancel_request(request.request_id)
        return pb.CancelAnalysisResponse()

    async def ListBackends(self, _request: pb.ListBackendsRequest, _context: Any) -> pb.ListBackendsResponse:
        backends = await asyncio.to_thread(_backends, self._weights, self._device, self._language_model, self._order)
        return pb.ListBackendsResponse(backends=backends)

    async def _is_good(self, record: JobRecord) -> bool:
        """Whether a stored analysis has no substitutes other than those that were known when it was requested."""
        outputs = await self._jobs.outputs(record.id)
        expected = {c["part"] for c in record.payload["parts"] if c["made_by"]["substitution"]}
        return all(name in expected or not kept["made_by"]["substitution"] for name, kept in outputs.items())


def _choice(
    request: pb.PartRequest,
    weights: WeightStore,
    device: str,
    language_model: Endpoint | None,
    order: registry.Order,
) -> dict[str, Any]:
    """The choices for a requested part, to be stored in the job; automatic ones are resolved as far as possible.

    The worker decides about those in the end: it knows its device, and whether weights can really be fetched.
    """
    part = PART_NAMES[request.part]
    if not LANGUAGE.fullmatch(request.language):
        raise InvalidInputError("language must be an ISO 639-1 code such as en", "BAD_REQUEST")
    asked = (request.backend or registry.AUTO, request.model or registry.AUTO)
    chosen = registry.choose(
        part, *asked, weights, device, language_model=language_model, order=order, language=request.language
    )
    return {
        "part": part,
        "asked": asked,
        "backend": chosen.entry.name,
        "model": chosen.model.name,
        "language": request.language,
        "made_by": chosen.made_by,
        **_given(request),
        **_heard_with(request),
        **_beats(request),
    }


def _given(request: pb.PartRequest) -> dict[str, Any]:
    """The sections to name again, and their lyrics, as JSON."""
    given = {name: getattr(request, name) for name in ("structure", "lyrics") if request.HasField(name)}
    if not given:
        return {}
    if request.part != pb.PART_STRUCTURE or not request.structure.sections:
        raise InvalidInputError("structure and lyrics are for naming sections again", "BAD_REQUEST")
    return {name: message_json(message) for name, message in given.items()}


def _beats(request: pb.PartRequest) -> dict[str, Any]:
    """Beats that are known already, as JSON."""
    if not request.HasField("beats"):
        return {}
    times = [beat.time for beat in request.beats.beats]
    if PART_NAMES[request.part] not in USES_BEATS or not request.beats.HasField("tempo"):
        raise InvalidInputError(f"beats are for {' and '.join(USES_BEATS)}, and have a tempo", "BAD_REQUEST")
    if not all(map(math.isfinite, times)) or any(later <= time for time, later in pairwise(times)):
        raise InvalidInputError("beats must come one after another", "BAD_REQUEST")
    return {"beats": message_json(request.beats)}


def _heard_with(request: pb.PartRequest) -> dict[str, str]:
    """The given inputs of lyrics besides the vocals."""
    given = {name: value for name in ("mix_key", "text", "found_text") if (value := getattr(request, name))}
    if given and request.part != pb.PART_LYRICS:
        raise InvalidInputError("mix_key, text and found_text are for lyrics", "BAD_REQUEST")
    for name in sorted({"text", "found_text"} & set(given)):
        check_text(given[name])
    return given


def _key(choice: dict[str, Any]) -> list[str]:
    names = ("structure", "lyrics", "mix_key", "text", "found_text", "beats")
    given = [json.dumps([name, choice[name]], sort_keys=True) for name in names if name in choice]
    return [choice["part"], *choice["asked"], choice["model"], choice["language"], choice["made_by"]["version"], *given]


def _message(record: JobRecord) -> pb.Analysis:
    """An analysis without the results of its parts."""
    analysis = pb.Analysis(job=job_message(record))
    shown = ParseDict({"parts": (record.result or record.detail).get("parts", [])}, pb.Analysis()).parts
    known = {status.part: status for status in shown}
    for number in (PART_NUMBERS[choice["part"]] for choice in record.payload["parts"]):
        status = known.get(number, pb.PartStatus(part=number, state=job_pb2.JOB_STATE_QUEUED))
        if record.finished and status.state not in FINISHED_NUMBERS:
            is_cancelled = record.state == "cancelled"
            status.state = job_pb2.JOB_STATE_CANCELLED if is_cancelled else job_pb2.JOB_STATE_FAILED
        if status.state == job_pb2.JOB_STATE_FAILED and record.error and not status.HasField("error"):
            status.error.MergeFrom(job_pb2.JobError(**record.error))
        analysis.parts.append(status)
    return analysis


def _add_results(statuses: Iterable[pb.PartStatus], outputs: Mapping[str, Any]) -> None:
    for name, status in ((PART_NAMES[status.part], status) for status in statuses):
        if name in outputs:
            ParseDict(outputs[name], getattr(status, name))


def _backends(
    weights: WeightStore, device: str, language_model: Endpoint | None, order: registry.Order
) -> list[pb.Backend]:
    messages = []
    for part in PARTS:
        default = registry.choose(
            part, registry.AUTO, registry.AUTO, weights, device, language_model=language_model, order=order
        )
        for name in registry.names(part):
            entry = registry.entry(part, name)
            is_default = name == default.entry.name
            messages.append(
                pb.Backend(
                    part=PART_NUMBERS[part],
                    name=name,
                    version=entry.version,
                    license=entry.licence,
                    description=entry.description,
                    models=[
                        pb.BackendModel(
                            name=model.name,
                            availability=availability_message(registry.availability(part, name, weights, model.name)),
                            default=is_default and model == default.model,
                            languages=model.languages,
                        )
                        for model in entry.models
                    ],
                    availability=availability_message(
                        NO_LANGUAGE_MODEL
                        if entry.asks_language_model and language_model is None
                        else registry.availability(part, name, weights)
                    ),
                    default=is_default,
                )
            )
    return messages
