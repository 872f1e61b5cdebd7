"""The worker lets a language model name sections if one is configured and answers."""

import asyncio
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from pydantic import SecretStr

from services.analysis.config import AnalysisSettings, LanguageModelSettings
from services.analysis.worker import AnalysisWork
from services.common.errors import StemTubeError
from songs.small_songs import RATE
from tests.analysis.test_language_model import KEY, ModelServer, server  # noqa: F401 - a fixture
from tests.analysis.work import AUDIO, Reports, choice, put, statuses


@pytest.fixture
def with_language_model(settings: AnalysisSettings, server: ModelServer) -> AnalysisSettings:  # noqa: F811
    model = LanguageModelSettings(url=f"{server.url}/v1", model="small-one", api_key=SecretStr(KEY))
    section = settings.analysis.model_copy(update={"language_model": model})
    return settings.model_copy(update={"analysis": section})


SECTIONS = {
    "sections": [
        {"start": 10.0 * i, "end": 10.0 * i + 10, "label": "A", "confidence": 0.5, "group": i % 2, "level": -9.0}
        for i in range(3)
    ]
}


async def rename_sections(settings: AnalysisSettings, backend: str, *more: dict[str, Any]) -> tuple[Any, Reports]:
    await put(settings, np.zeros((2, 30 * RATE), np.float32))
    reports = Reports()
    parts = [choice("structure", backend, structure=SECTIONS), *more]
    return await asyncio.to_thread(
        AnalysisWork(settings), {"audio_key": AUDIO, "parts": parts, "done": {}}, reports
    ), reports


async def test_a_configured_language_model_names_sections(with_language_model: AnalysisSettings) -> None:
    _, reports = await rename_sections(with_language_model, "auto")
    structure = reports.kept["structure"]
    assert [section["label"] for section in structure["sections"]] == ["intro", "chorus", "outro"]
    assert (structure["made_by"]["backend"], structure["made_by"]["model"]) == ("llm", "small-one")
    assert structure["made_by"]["substitution"] == ""


async def test_auto_replaces_a_language_model_that_refuses_and_says_so(
    with_language_model: AnalysisSettings,
    server: ModelServer,  # noqa: F811
) -> None:
    server.answer = lambda number: web.Response(status=401)
    _, reports = await rename_sections(with_language_model, "auto")
    structure = reports.kept["structure"]
    assert [section["label"] for section in structure["sections"]] == ["A", "B", "A"]
    assert structure["made_by"]["backend"] == "barwise"
    assert "refuses the key" in structure["made_by"]["substitution"]
    assert KEY not in str(reports.kept)


async def test_naming_a_missing_language_model_fails_that_part_alone(settings: AnalysisSettings) -> None:
    result, reports = await rename_sections(settings, "llm", choice("key", "librosa"))
    assert statuses(result)["structure"].error.reason == "LANGUAGE_MODEL_NOT_SET"
    assert set(reports.kept) == {"key"}


async def test_a_named_language_model_that_refuses_is_not_replaced(
    with_language_model: AnalysisSettings,
    server: ModelServer,  # noqa: F811
) -> None:
    server.answer = lambda number: "no idea"
    with pytest.raises(StemTubeError, match="not usable") as failure:
        await rename_sections(with_language_model, "llm")
    assert failure.value.reason == "LANGUAGE_MODEL_ANSWER"


async def test_without_a_language_model_auto_does_not_mention_one(settings: AnalysisSettings) -> None:
    _, reports = await rename_sections(settings, "auto")
    made_by = reports.kept["structure"]["made_by"]
    assert (made_by["backend"], made_by["substitution"]) == ("barwise", "")
