"""The worker fetches weights, shows that, and uses another model if it fails."""

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from services.analysis.backends.lyrics import entries, whisper_models
from services.analysis.config import AnalysisSettings
from services.analysis.worker import AnalysisWork
from services.common.errors import WeightsMissingError
from services.common.weights.store import Weights
from songs.small_songs import RATE
from stemtube.job.v1 import job_pb2
from tests.analysis.work import AUDIO, Reports, choice, put, statuses
from tests.common.weights.test_store import Hub, hub  # noqa: F401 - a fixture


@pytest.fixture
def small_from(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: F811
    """Makes the worker fetch Whisper's `small` from a path of the test's hub."""
    real = whisper_models.weights

    def use(path: str) -> None:
        def weights(model: str) -> Weights:
            return hub.weights(path) if model == "small" else real(model)

        monkeypatch.setattr(whisper_models, "weights", weights)
        (whisper,) = entries.ENTRIES
        models = tuple(replace(model, weights=weights(model.name)) for model in whisper.models)
        monkeypatch.setattr(entries, "ENTRIES", (replace(whisper, models=models),))

    return use


async def test_auto_uses_the_bundled_model_after_a_broken_download(settings: AnalysisSettings, small_from: Any) -> None:
    small_from("cut")
    await put(settings, np.zeros((2, RATE), np.float32))
    reports = Reports()
    task = {"audio_key": AUDIO, "parts": [choice("lyrics")], "done": {}}
    result = await asyncio.to_thread(AnalysisWork(settings), task, reports)
    assert statuses(result)["lyrics"].state == job_pb2.JOB_STATE_SUCCEEDED
    made_by = reports.kept["lyrics"]["made_by"]
    assert made_by["model"] == "tiny.en"
    assert made_by["version"].endswith("tiny.en")
    assert made_by["substitution"].startswith(
        "whisper tiny.en (knows English alone) is used in place of whisper small: "
    )


async def test_a_broken_download_fails_a_named_model(settings: AnalysisSettings, small_from: Any) -> None:
    small_from("cut")
    await put(settings, np.zeros((2, RATE), np.float32))
    task = {"audio_key": AUDIO, "parts": [choice("lyrics", "whisper", "small")], "done": {}}
    with pytest.raises(Exception, match="cannot be fetched") as failure:
        await asyncio.to_thread(AnalysisWork(settings), task, Reports())
    assert failure.value.reason == WeightsMissingError.reason  # type: ignore[attr-defined]


async def test_fetching_weights_is_shown(
    settings: AnalysisSettings, small_from: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_from("good")
    await put(settings, np.zeros((2, RATE), np.float32))
    monkeypatch.setattr("services.analysis.backends.lyrics.whisper.load", lambda *_: SilentLyrics())
    reports = Reports()
    task = {"audio_key": AUDIO, "parts": [choice("lyrics")], "done": {}}
    await asyncio.to_thread(AnalysisWork(settings), task, reports)
    assert reports.kept["lyrics"]["made_by"]["model"] == "small"
    loading = [progress for stage, progress in reports.stages if stage == "loading"]
    assert loading[0] == 0
    assert loading == sorted(loading)
    assert len(set(loading)) > 3
    assert [progress for stage, progress in reports.stages if stage == "lyrics"][-1] == 1


class SilentLyrics:
    def analyze(self, *_: Any) -> Any:
        from services.analysis.backends.base import Lyrics

        return Lyrics("", ())
