"""Checks a plan's names of models, stems and backends against those of the separation and analysis services."""

import time
from collections.abc import Collection, Mapping
from typing import Any

import grpc.aio

from services.common.errors import InvalidInputError
from services.common.observe import request_context
from services.common.parts import PART_NAMES
from services.common.rpc.auth import ServiceIdentity
from services.common.rpc.client import CALL_SECONDS, domain_error
from services.download.pipeline.plan import AUTO, Plan
from stemtube.analysis.v1 import analysis_pb2, analysis_pb2_grpc
from stemtube.separation.v1 import separation_pb2, separation_pb2_grpc

KEPT_SECONDS = 60.0


class Choices:
    """The models and backends that can be chosen, cached for a minute."""

    def __init__(self, separation: grpc.aio.Channel, analysis: grpc.aio.Channel, identity: ServiceIdentity) -> None:
        self._separation: Any = separation_pb2_grpc.SeparationServiceStub(separation)
        self._analysis: Any = analysis_pb2_grpc.AnalysisServiceStub(analysis)
        self._identity = identity
        self._models: dict[str, list[str]] = {}
        self._backends: dict[str, dict[str, list[str]]] = {}
        self._asked_at = {"models": float("-inf"), "backends": float("-inf")}

    @property
    def stems(self) -> Mapping[str, Collection[str]]:
        """The stems of each known model, including all models that a checked plan names."""
        return self._models

    async def check(self, plan: Plan) -> None:
        """Checks the names in a plan.

        Raises:
            InvalidInputError: a name is unknown (reason UNKNOWN_MODEL, UNKNOWN_STEM or UNKNOWN_BACKEND).
            StemTubeError: the service with the models or backends does not answer.
        """
        named = [choice for choice in plan["separations"] if choice["model"] != AUTO]
        if named:
            await self._refresh_models({choice["model"] for choice in named})
        for choice in named:
            if choice["model"] not in self._models:
                known = ", ".join([AUTO, *self._models])
                raise InvalidInputError(
                    f"there is no separation model {choice['model']!r}; choose one of {known}", "UNKNOWN_MODEL"
                )
            given = self._models[choice["model"]]
            if given and (unknown := {stem for stem in choice["stems"] if stem.removeprefix("no_") not in given}):
                raise InvalidInputError(
                    f"{choice['model']} has no stem {', '.join(sorted(unknown))}; it has {', '.join(given)}",
                    "UNKNOWN_STEM",
                )
        if any(choice["backend"] != AUTO or choice["model"] != AUTO for choice in plan["analyses"]):
            await self._refresh_backends()
            for choice in plan["analyses"]:
                self._check_analysis(choice)

    def _check_analysis(self, choice: dict[str, Any]) -> None:
        backends = self._backends.get(choice["part"], {})
        if choice["backend"] != AUTO and choice["backend"] not in backends:
            known = ", ".join([AUTO, *backends])
            raise InvalidInputError(
                f"there is no backend {choice['backend']!r} for {choice['part']}; choose one of {known}",
                "UNKNOWN_BACKEND",
            )
        candidates = [choice["backend"]] if choice["backend"] != AUTO else list(backends)
        models = [model for name in candidates for model in backends[name]]
        if choice["model"] not in (AUTO, *models):
            known = ", ".join([AUTO, *models])
            raise InvalidInputError(
                f"there is no model {choice['model']!r} for {choice['part']}; choose one of {known}", "UNKNOWN_MODEL"
            )

    async def _refresh_models(self, wanted: set[str]) -> None:
        """Asks again if the answer is old, or lacks a wanted name: a model may have been added just now."""
        if not wanted <= set(self._models) or time.monotonic() - self._asked_at["models"] > KEPT_SECONDS:
            answer = await self._ask(self._separation.ListModels, separation_pb2.ListModelsRequest())
            self._models = {model.name: list(model.stems) for model in answer.models}
            self._asked_at["models"] = time.monotonic()

    async def _refresh_backends(self) -> None:
        if time.monotonic() - self._asked_at["backends"] > KEPT_SECONDS:
            answer = await self._ask(self._analysis.ListBackends, analysis_pb2.ListBackendsRequest())
            self._backends = {}
            for backend in answer.backends:
                models = [model.name for model in backend.models]
                self._backends.setdefault(PART_NAMES[backend.part], {})[backend.name] = models
            self._asked_at["backends"] = time.monotonic()

    async def _ask(self, call: Any, request: Any) -> Any:
        try:
            metadata = (*await self._identity.metadata(), *request_context.metadata())
            return await call(request, metadata=metadata, timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                self._identity.refused()
            raise domain_error(error) from error
