"""The worker's analyses: their order, their progress, and that nothing is done twice."""

import asyncio
import os
import re
import signal
import threading
from contextlib import aclosing
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from services.analysis.backends import registry
from services.analysis.backends.base import Beat, Beats, Chord, Chords, Context, Key, Section, Structure
from services.analysis.backends.signal.features import is_tonal
from services.analysis.config import AnalysisSettings
from services.analysis.service import KIND
from services.analysis.worker import AnalysisWork
from services.common.errors import StoppedError
from services.common.jobs.queue import JobQueue
from songs.small_songs import RATE, Song
from stemtube.job.v1 import job_pb2
from tests.analysis.work import AUDIO, Reports, choice, put, statuses


class Stub:
    """A backend that runs a test's function."""

    def __init__(self, do: Any) -> None:
        self.analyze = do


Does = dict[str, Any]


@pytest.fixture
def does(monkeypatch: pytest.MonkeyPatch) -> Does:
    """Functions of audio, context and progress that replace the backends, on two cores."""
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


async def test_parts_run_in_parallel_and_report_in_order(settings: AnalysisSettings, does: Does) -> None:
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
    assert [part["state"] for part in result["parts"]] == ["JOB_STATE_SUCCEEDED", "JOB_STATE_SUCCEEDED"]
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
    assert {part["state"] for part in result["parts"]} == {"JOB_STATE_SUCCEEDED"}


async def test_a_failing_part_does_not_affect_others(settings: AnalysisSettings, does: Does) -> None:
    def fault(*_: Any) -> Any:
        raise RuntimeError("a secret")

    def chords(audio: Any, context: Context, progress: Any) -> Chords:
        assert context.beats is None
        return no_chord()

    sections = Structure((Section(0.0, 1.0, "intro", 1.0),))
    does.update(beats=fault, key=c_major, chords=chords, structure=lambda *_: sections)
    reports = Reports()
    result = await run(settings, reports, "beats", "key", "chords", "structure")
    ended = statuses(result)
    assert {part for part, status in ended.items() if status.state == job_pb2.JOB_STATE_FAILED} == {"beats"}
    assert ended["beats"].error.reason == "INTERNAL"
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


async def test_the_backends_of_auto_warm_up_on_music_before_the_first_job(
    settings: AnalysisSettings, does: Does
) -> None:
    ran: list[str] = []

    def analyze(part: str) -> Any:
        def listen(sound: Any, context: Any, progress: Any) -> None:
            assert is_tonal(sound), "backends look no further at silence and noise"
            progress(1.0)
            ran.append(part)

        return listen

    does.update({part: analyze(part) for part in ("beats", "key", "chords", "structure", "tuning")})
    reports = Reports()
    steps = AnalysisWork(settings).preparations(reports)
    for number, _ in enumerate(steps):
        assert len(ran) == number + 1, "a step is one backend"
    assert ran == ["beats", "key", "chords", "structure", "tuning"]
    loads = [(metric, labels["part"]) for metric, _, labels in reports.measured]
    assert loads == [("load_seconds", part) for part in ran]


async def test_a_part_that_a_dead_attempt_finished_is_not_repeated(
    settings: AnalysisSettings, song: Song, jobs: JobQueue, capfd: pytest.CaptureFixture[str]
) -> None:
    await put(settings, song.audio.samples)
    parts = [choice("key", "madmom"), choice("chords", "chordia"), choice("structure")]
    job = await jobs.submit(KIND, {"audio_key": AUDIO, "parts": parts}, key="k", user="anna")
    keys: list[str] = []
    killed = False
    async with asyncio.timeout(120), aclosing(jobs.watch(job.id)) as changes:
        async for record in changes:
            keys += [part["state"] for part in record.detail.get("parts", []) if part["part"] == "PART_KEY"]
            if not killed and keys[-1:] == ["JOB_STATE_SUCCEEDED"]:
                engine = next(child for child in psutil.Process().children() if "spawn_main" in child.cmdline()[-2])
                os.kill(engine.pid, signal.SIGKILL)
                killed = True
    assert killed
    assert (record.state, record.attempts) == ("succeeded", 2)
    assert {part["state"] for part in (record.result or {})["parts"]} == {"JOB_STATE_SUCCEEDED"}
    assert set(keys[keys.index("JOB_STATE_SUCCEEDED") :]) == {"JOB_STATE_SUCCEEDED"}
    log_lines = re.sub(r"\x1b\[[0-9;]*m", "", "".join(capfd.readouterr())).splitlines()
    assert len([line for line in log_lines if "backend loaded" in line and "part=key" in line]) == 1
    assert set(await jobs.outputs(job.id)) == {"key", "chords", "structure"}


async def test_lyrics_use_the_mix_too(settings: AnalysisSettings, song: Song) -> None:
    await put(settings, song.audio.samples)
    mix = AnalysisWork(settings)._mix({"mix_key": AUDIO})
    assert mix is not None
    sound = await asyncio.to_thread(mix)
    assert (sound.sample_rate_hz, sound.samples.shape[0]) == (16_000, 2), "one channel could cancel the other"
    assert sound.duration == pytest.approx(song.audio.duration, abs=0.01)
