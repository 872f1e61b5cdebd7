"""Analyses as the worker does them: which model it takes in the end, what it shows, and what it never does twice."""

import asyncio
import os
import re
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from aiohttp import web
from pydantic import SecretStr

from services.analysis.backends import registry
from services.analysis.backends.base import Beat, Beats, Chord, Chords, Context, Key, Section, Structure
from services.analysis.backends.lyrics import entries, whisper_models
from services.analysis.backends.signal.features import is_tonal
from services.analysis.config import AnalysisSection, AnalysisSettings, LanguageModelSettings
from services.analysis.service import KIND
from services.analysis.worker import AnalysisWork, AnalysisWorker
from services.common import audio
from services.common.config import LogSettings
from services.common.errors import StemTubeError, StoppedError, WeightsMissingError
from services.common.jobs.queue import JobQueue
from services.common.weights.store import Weights
from songs.small_songs import RATE, Song
from tests.analysis.test_language_model import KEY, ModelServer, server  # noqa: F401 - a fixture
from tests.common.weights.test_store import Hub, hub  # noqa: F401 - a fixture

AUDIO = "originals/song"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AnalysisSettings:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return AnalysisSettings(data_dir=tmp_path, log=LogSettings(), analysis=AnalysisSection(device="cpu"))


async def put(settings: AnalysisSettings, samples: audio.Samples) -> None:
    path = settings.data_dir / "song.flac"
    audio.encode(samples, RATE, path, "flac")
    await settings.object_store().put(AUDIO, path)


class Reports:
    """Keeps what a task reports."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, float]] = []
        self.kept: dict[str, Any] = {}
        self.measured: list[tuple[str, float, dict[str, str]]] = []

    def __call__(self, stage: str, fraction: float, **detail: Any) -> None:
        parts = detail.get("parts", {})
        self.stages.append((stage, parts["lyrics"]["progress"] if "lyrics" in parts else fraction))

    def note(self, **detail: Any) -> None:
        pass

    def keep(self, name: str, content: Any) -> None:
        self.kept[name] = content

    def measure(self, metric: str, value: float, **labels: str) -> None:
        self.measured.append((metric, value, labels))


class Stub:
    """A backend that does what a test says."""

    def __init__(self, do: Any) -> None:
        self.analyze = do


Does = dict[str, Any]


@pytest.fixture
def does(monkeypatch: pytest.MonkeyPatch) -> Does:
    """What each part does in place of its backend: a function of audio, context and progress. There are two cores."""
    parts: Does = {}
    monkeypatch.setattr(registry, "load", lambda part, *_: Stub(parts[part]))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    return parts


async def run(settings: AnalysisSettings, reports: "Reports", *parts: str) -> dict[str, Any]:
    await put(settings, np.zeros((2, RATE), np.float32))
    task = {"audio_key": AUDIO, "parts": [choice(part) for part in parts], "done": {}}
    return await asyncio.to_thread(AnalysisWork(settings), task, reports)


def c_major(*_: Any) -> Key:
    return Key("C", "major", 1.0)


def no_chord(*_: Any) -> Chords:
    return Chords((Chord(0.0, 1.0, "N", 1.0),))


async def test_parts_run_side_by_side_and_tell_in_order(settings: AnalysisSettings, does: Does) -> None:
    both = threading.Barrier(2)

    def busy(result: Any) -> Any:
        def analyze(audio: Any, context: Any, progress: Any) -> Any:
            both.wait(30)
            for number in range(200):
                progress(number / 200)
            return result()

        return analyze

    does.update(key=busy(c_major), chords=busy(no_chord))
    reports = Reports()
    result = await run(settings, reports, "key", "chords")
    assert [part["state"] for part in result["parts"].values()] == ["succeeded", "succeeded"]
    fractions = [fraction for _, fraction in reports.stages]
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1.0)


async def test_chords_and_structure_wait_for_the_beats_and_nothing_else_does(
    settings: AnalysisSettings, does: Does
) -> None:
    others = threading.Event()
    beats = Beats((Beat(0.5, 1),), 120.0, 1.0, 4)

    def beats_at_last(*_: Any) -> Beats:
        assert others.wait(30)
        return beats

    def key(*_: Any) -> Key:
        others.set()
        return c_major()

    def chords(audio: Any, context: Context, progress: Any) -> Chords:
        assert context.beats == beats
        return no_chord()

    def structure(audio: Any, context: Context, progress: Any) -> Structure:
        assert context.beats == beats
        return Structure((Section(0.0, 1.0, "intro", 1.0),))

    does.update(beats=beats_at_last, key=key, chords=chords, structure=structure)
    result = await run(settings, Reports(), "structure", "chords", "key", "beats")
    assert {part["state"] for part in result["parts"].values()} == {"succeeded"}


async def test_a_part_that_fails_hurts_no_other(settings: AnalysisSettings, does: Does) -> None:
    def fault(*_: Any) -> Any:
        raise RuntimeError("a secret")

    def chords(audio: Any, context: Context, progress: Any) -> Chords:
        assert context.beats is None
        return no_chord()

    sections = Structure((Section(0.0, 1.0, "intro", 1.0),))
    does.update(beats=fault, key=c_major, chords=chords, structure=lambda *_: sections)
    reports = Reports()
    result = await run(settings, reports, "beats", "key", "chords", "structure")
    states = {part: shown["state"] for part, shown in result["parts"].items()}
    assert states == {"beats": "failed", "key": "succeeded", "chords": "succeeded", "structure": "succeeded"}
    assert result["parts"]["beats"]["error"]["reason"] == "INTERNAL"
    assert "secret" not in str(result)


async def test_all_parts_stop_before_a_task_ends(settings: AnalysisSettings, does: Does) -> None:
    stop, ended = threading.Event(), []
    both = threading.Barrier(2)

    class Stopped(Reports):
        def __call__(self, stage: str, fraction: float, **detail: Any) -> None:
            if stop.is_set():
                raise StoppedError("enough")

    def endless(audio: Any, context: Any, progress: Any) -> Any:
        both.wait(30)
        stop.set()
        try:
            while True:
                progress(0.5)
        finally:
            ended.append(True)

    does.update(beats=endless, key=endless, chords=no_chord, structure=c_major)
    with pytest.raises(StoppedError):
        await run(settings, Stopped(), "beats", "key", "chords", "structure")
    assert len(ended) == 2


async def test_what_auto_chooses_is_run_on_music_before_the_first_job(settings: AnalysisSettings, does: Does) -> None:
    ran: list[str] = []

    def analyze(part: str) -> Any:
        def listen(sound: Any, context: Any, progress: Any) -> None:
            assert is_tonal(sound), "backends look no further at silence and noise"
            progress(1.0)
            ran.append(part)

        return listen

    does.update({part: analyze(part) for part in ("beats", "key", "chords", "structure")})
    reports = Reports()
    steps = AnalysisWork(settings).preparations(reports)
    for number, _ in enumerate(steps):
        assert len(ran) == number + 1, "a step is one backend"
    assert ran == ["beats", "key", "chords", "structure"]
    loads = [(metric, labels["part"]) for metric, _, labels in reports.measured]
    assert loads == [("load_seconds", part) for part in ran]


def choice(part: str, backend: str = "auto", model: str = "auto", **more: Any) -> dict[str, Any]:
    first = registry.names(part)[0] if backend == "auto" else backend  # type: ignore[arg-type]
    return {"part": part, "asked": [backend, model], "backend": first, "model": "", "language": "", **more}


@pytest.fixture
def small_from(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: F811
    """Has Whisper's model `small` come from a path of the test's hub."""
    real = whisper_models.weights

    def use(path: str) -> None:
        def weights(model: str) -> Weights:
            return hub.weights(path) if model == "small" else real(model)

        monkeypatch.setattr(whisper_models, "weights", weights)
        (whisper,) = entries.ENTRIES
        models = tuple(replace(model, weights=weights(model.name)) for model in whisper.models)
        monkeypatch.setattr(entries, "ENTRIES", (replace(whisper, models=models),))

    return use


async def test_weights_that_break_off_lead_auto_to_the_bundled_model(
    settings: AnalysisSettings, small_from: Any
) -> None:
    small_from("cut")
    await put(settings, np.zeros((2, RATE), np.float32))
    reports = Reports()
    task = {"audio_key": AUDIO, "parts": [choice("lyrics")], "done": {}}
    result = await asyncio.to_thread(AnalysisWork(settings), task, reports)
    assert result["parts"]["lyrics"]["state"] == "succeeded"
    made_by = reports.kept["lyrics"]["made_by"]
    assert made_by["model"] == "tiny.en"
    assert made_by["version"].endswith("tiny.en")
    assert made_by["substitution"].startswith(
        "whisper tiny.en (knows English alone) is used in place of whisper small: "
    )


async def test_weights_that_break_off_fail_what_was_named(settings: AnalysisSettings, small_from: Any) -> None:
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


@pytest.fixture
async def jobs(settings: AnalysisSettings) -> AsyncIterator[JobQueue]:
    worker = AnalysisWorker(settings)
    queue = JobQueue(
        f"sqlite:///{settings.data_dir}/jobs.sqlite", "analysis-test", handlers={KIND: worker.handle}, slots=1
    )
    await queue.start()
    yield queue
    await queue.close()
    await worker.close()


async def test_a_part_that_a_dead_attempt_has_finished_is_not_made_again(
    settings: AnalysisSettings, song: Song, jobs: JobQueue, capfd: pytest.CaptureFixture[str]
) -> None:
    await put(settings, song.audio.samples)
    parts = [choice("key", "madmom"), choice("chords", "chordia"), choice("structure")]
    job = await jobs.submit(KIND, {"audio_key": AUDIO, "parts": parts}, key="k", user="anna")
    keys: list[str] = []
    killed = False
    async with asyncio.timeout(120), aclosing(jobs.watch(job.id)) as changes:
        async for record in changes:
            shown = record.detail.get("parts", {})
            if "key" in shown:
                keys.append(shown["key"]["state"])
            if not killed and keys[-1:] == ["succeeded"]:
                engine = next(child for child in psutil.Process().children() if "spawn_main" in child.cmdline()[-2])
                os.kill(engine.pid, signal.SIGKILL)
                killed = True
    assert killed
    assert (record.state, record.attempts) == ("succeeded", 2)
    assert {part["state"] for part in (record.result or {})["parts"].values()} == {"succeeded"}
    assert set(keys[keys.index("succeeded") :]) == {"succeeded"}
    log_lines = re.sub(r"\x1b\[[0-9;]*m", "", "".join(capfd.readouterr())).splitlines()
    assert len([line for line in log_lines if "backend loaded" in line and "part=key" in line]) == 1
    assert set(await jobs.outputs(job.id)) == {"key", "chords", "structure"}


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


async def name_anew(settings: AnalysisSettings, backend: str, *more: dict[str, Any]) -> tuple[Any, Reports]:
    await put(settings, np.zeros((2, 30 * RATE), np.float32))
    reports = Reports()
    parts = [choice("structure", backend, structure=SECTIONS), *more]
    return await asyncio.to_thread(
        AnalysisWork(settings), {"audio_key": AUDIO, "parts": parts, "done": {}}, reports
    ), reports


async def test_a_language_model_that_is_set_names_sections(with_language_model: AnalysisSettings) -> None:
    _, reports = await name_anew(with_language_model, "auto")
    structure = reports.kept["structure"]
    assert [section["label"] for section in structure["sections"]] == ["intro", "chorus", "outro"]
    assert (structure["made_by"]["backend"], structure["made_by"]["model"]) == ("llm", "small-one")
    assert structure["made_by"]["substitution"] == ""


async def test_auto_does_without_a_language_model_that_refuses_and_says_so(
    with_language_model: AnalysisSettings,
    server: ModelServer,  # noqa: F811
) -> None:
    server.answer = lambda number: web.Response(status=401)
    _, reports = await name_anew(with_language_model, "auto")
    structure = reports.kept["structure"]
    assert [section["label"] for section in structure["sections"]] == ["A", "B", "A"]
    assert structure["made_by"]["backend"] == "barwise"
    assert "refuses the key" in structure["made_by"]["substitution"]
    assert KEY not in str(reports.kept)


async def test_a_language_model_that_is_named_and_not_set_fails_its_part_alone(settings: AnalysisSettings) -> None:
    result, reports = await name_anew(settings, "llm", choice("key", "librosa"))
    assert result["parts"]["structure"]["state"] == "failed"
    assert result["parts"]["structure"]["error"]["reason"] == "LANGUAGE_MODEL_NOT_SET"
    assert set(reports.kept) == {"key"}


async def test_a_language_model_that_is_named_and_refuses_is_not_replaced(
    with_language_model: AnalysisSettings,
    server: ModelServer,  # noqa: F811
) -> None:
    server.answer = lambda number: "no idea"
    with pytest.raises(StemTubeError, match="not usable") as failure:
        await name_anew(with_language_model, "llm")
    assert failure.value.reason == "LANGUAGE_MODEL_ANSWER"


async def test_without_a_language_model_auto_says_nothing_of_it(settings: AnalysisSettings) -> None:
    _, reports = await name_anew(settings, "auto")
    made_by = reports.kept["structure"]["made_by"]
    assert (made_by["backend"], made_by["substitution"]) == ("barwise", "")


async def test_lyrics_are_heard_in_the_mix_too(settings: AnalysisSettings, song: Song) -> None:
    await put(settings, song.audio.samples)
    mix = AnalysisWork(settings)._mix({"mix_key": AUDIO})
    assert mix is not None
    sound = await asyncio.to_thread(mix)
    assert (sound.sample_rate_hz, sound.samples.shape[0]) == (16_000, 1)
    assert sound.duration == pytest.approx(song.audio.duration, abs=0.01)
