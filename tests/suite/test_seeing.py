"""Traces, logs, metrics and status of one song that passes through all processes, with a restart.

At the end the suite is backed up while it runs, wiped, and restored.
"""

import asyncio
import json
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cli.local import status
from songs.small_songs import music
from tests.common.audio_files import with_soundfile
from tests.suite.client import Client, Json, patient_end, states
from tests.suite.collector import Collector, running_collector
from tests.suite.conftest import add_user
from tests.suite.running import PASSWORD, ROOT, Suite

REQUEST = "a-click"
SECONDS = 6
OPTIONS = {
    "separations": [{"model": "spleeter_2stems"}],
    "analyses": [{"part": "PART_KEY", "backend": "librosa"}],
}
MODELS = {"separation": ("separation", "spleeter_2stems"), "analysis": ("key", "librosa")}


@dataclass
class ProcessedSong:
    suite: Suite
    collector: Collector
    track: str
    user: str

    def metrics(self, name: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        port = self.suite.ports[f"{name}-health"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            families = text_string_to_metric_families(answer.read().decode())
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }


@pytest.fixture(scope="module")
def processed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessedSong]:
    data = tmp_path_factory.mktemp("seeing")
    with running_collector() as collector:
        settings = {
            "TRACING__OTLP_URL": collector.url,
            "LOG__FORMAT": "json",
            "LOG__FILE": data / "logs" / "{process}.log",
        }
        suite = Suite(data, settings=settings)
        try:
            suite.start("auth", "analysis", "separation-serve", "download", "gateway")
            yield asyncio.run(process_a_song(suite, collector))
        finally:
            suite.stop()


async def process_a_song(suite: Suite, collector: Collector) -> ProcessedSong:
    """The song waits for a separation worker while the library restarts."""
    await add_user(suite, "ben")
    async with Client(suite.url) as client:
        await client.sign_in("ben", PASSWORD)
        song = with_soundfile(suite.data / "song.flac", music(SECONDS)).read_bytes()
        headers = {"X-Request-Id": REQUEST, "Content-Type": "application/octet-stream"}
        query = {"filename": "song.flac", "options": json.dumps(OPTIONS)}
        code, added = await client.call("POST", "/tracks/upload", headers, params=query, data=song)
        assert code == 200, added
        job, track = added["job"]["job"]["id"], added["track"]["id"]
        async with asyncio.timeout(150):
            while states((await client.get(f"/jobs/{job}"))["job"])["key"] != "succeeded":
                await asyncio.sleep(0.1)
        suite.processes["download"].send_signal(signal.SIGTERM)
        await asyncio.to_thread(suite.processes["download"].wait, 20)
        await asyncio.to_thread(suite.start, "download", "separation-work")
        ended = await patient_end(client, job)
        assert set(states(ended).values()) == {"succeeded"}, ended
        user = (await client.get("/me"))["user"]["id"]
    return ProcessedSong(suite, collector, track, user)


async def until(found: Any) -> Any:
    async with asyncio.timeout(20):
        while not (result := found()):
            await asyncio.sleep(0.1)
    return result


@pytest.mark.long
async def test_one_trace_leads_from_the_request_to_each_stem_across_a_restart(processed: ProcessedSong) -> None:
    collector = processed.collector
    for stem in ("vocals", "accompaniment"):
        (stored,) = await until(lambda stem=stem: collector.named("store stem", stem=stem))
        await until(lambda stored=stored: len(collector.path_to(stored)) == 9)
        assert collector.path_to(stored) == [
            ("gateway", "POST /api/v1/tracks/upload"),
            ("download", "stemtube.download.v1.UploadService/UploadTrack"),
            ("download", "job track"),
            ("download", "step separation"),
            ("separation-serve", "stemtube.separation.v1.SeparationService/CreateSeparation"),
            ("separation-work", "job separation"),
            ("separation-work", "step separate"),
            ("separation-engine-cpu", "work"),
            ("separation-engine-cpu", "store stem"),
        ]
    (click,) = collector.named("POST /api/v1/tracks/upload", request=REQUEST)
    assert stored.trace == click.trace
    runs = await until(lambda: len(found := collector.named("job track")) == 2 and found)
    assert [(run.trace, run.facts["attempt"]) for run in runs] == [(click.trace, "1")] * 2
    in_trace = [span for span in collector.spans.values() if span.trace == click.trace]
    (loaded,) = collector.named("load model", model="librosa")
    (analysed,) = collector.named("analyse", part="key")
    assert {loaded.trace, analysed.trace} == {click.trace}
    assert not [span for span in in_trace if span.failed]
    assert not [span for span in collector.spans.values() if "ListSigningKeys" in span.name]


def lines(path: Path) -> list[Json]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]


def test_the_ids_of_a_request_are_in_the_lines_of_all_processes(processed: ProcessedSong) -> None:
    def events(process: str, wanted: str) -> list[Json]:
        found = [line for line in lines(processed.suite.data / f"{process}.log") if line["event"] == wanted]
        return [line for line in found if line.get("request") == REQUEST]

    (line,) = events("gateway", "request")
    assert (line["route"], line["status"]) == ("/api/v1/tracks/upload", 200)
    assert "aiohttp" in line["agent"]
    assert "filename=" not in (processed.suite.data / "gateway.log").read_text(), "a query is in the log"
    (click,) = processed.collector.named("POST /api/v1/tracks/upload", request=REQUEST)
    ids = {"track_id": processed.track, "user": processed.user, "trace": click.trace}
    for process, event in (
        ("download", "job accepted"),
        ("download", "job ended"),
        ("separation-serve", "job accepted"),
        ("separation-work", "job started"),
        ("separation-work", "model loaded"),
        ("analysis", "job accepted"),
        ("analysis", "job ended"),
        ("analysis", "backend loaded"),
    ):
        line = events(process, event)[0]
        assert {name: line.get(name) for name in ids} == ids, line
        assert line["job"]


def test_the_log_is_also_in_files(processed: ProcessedSong) -> None:
    folder = processed.suite.data / "logs"
    names = {"auth", "download", "gateway", "separation-serve", "separation-work", "analysis-all"}
    assert {path.stem for path in folder.iterdir()} == names
    for name in names:
        shown = (processed.suite.data / f"{name.removesuffix('-all')}.log").read_text()
        told = [line["event"] for line in lines(folder / f"{name}.log")]
        # Lines that are not JSON were printed by libraries.
        assert set(told) == {json.loads(line)["event"] for line in shown.splitlines() if line.startswith("{")}
    engines = {line["service"] for line in lines(folder / "separation-work.log") if line["event"] == "model loaded"}
    assert engines == {"separation-engine-cpu"}


async def test_metrics_show_queues_jobs_models_workers_and_storage(processed: ProcessedSong) -> None:
    async with Client(processed.suite.url) as client:
        await client.sign_in("ben", PASSWORD)
        status_code, again = await client.call(
            "POST", f"/tracks/{processed.track}/process", json={"options": {"separations": OPTIONS["separations"]}}
        )
        assert status_code == 200, again
        await patient_end(client, again["job"]["job"]["id"])
    for service, (part, model) in MODELS.items():
        own = ("separation-serve", "separation-work") if service == "separation" else (service,)
        found = {name: value for process in own for name, value in processed.metrics(process).items()}

        def value(name: str, found: Any = found, **labels: str) -> float:
            return float(found[name, frozenset(labels.items())])

        queue = {"queue": service}
        for state in ("queued", "running"):
            assert value("stemtube_queue_jobs", **queue, state=state) == 0
        assert value("stemtube_queue_oldest_seconds", **queue) == 0
        ended = {"kind": service, "state": "succeeded", "reason": ""}
        assert value("stemtube_jobs_ended_total", **queue, **ended) == 1
        for name in ("wait", "work"):
            assert value(f"stemtube_job_{name}_seconds_count", **queue, kind=service) == 1
        labels = {**queue, "part": part, "model": model}
        assert value("stemtube_model_audio_seconds_total", **labels) == pytest.approx(SECONDS, abs=0.1)
        for name in ("work", "load"):
            assert value(f"stemtube_model_{name}_seconds_count", **labels) == 1
            assert value(f"stemtube_model_{name}_seconds_sum", **labels) > 0
        assert value("stemtube_worker_slots", **queue) == 1
        assert value("stemtube_worker_jobs", **queue) == 0
        assert value("stemtube_worker_beat_timestamp_seconds", **queue) > 0
        engines = {dict(own)["engine"]: size for (name, own), size in found.items() if "engine_memory" in name}
        assert {name for name, size in engines.items() if size > 50e6} == {
            "separation-engine-cpu" if service == "separation" else "analysis-engine"
        }
        kept = value("stemtube_job_submissions_total", **queue, kind=service, outcome="kept") if part != "key" else 1
        assert kept == 1
    stored = processed.metrics("download")["stemtube_storage_bytes", frozenset({("prefix", "originals")})]
    assert stored == (processed.suite.data / "song.flac").stat().st_size
    http = processed.metrics("gateway")
    route = {"method": "POST", "route": "/api/v1/tracks/upload"}
    assert http["stemtube_http_requests_total", frozenset({**route, "status": "200"}.items())] == 1
    assert http["stemtube_http_request_seconds_count", frozenset(route.items())] == 1
    rpcs = {dict(own).get("method") for name, own in processed.metrics("auth") if name == "stemtube_rpcs_total"}
    assert "/stemtube.auth.v1.SessionService/Login" in rpcs


async def test_status_shows_the_loaded_models_of_each_worker(processed: ProcessedSong) -> None:
    names = ("auth", "download", "separation-work", "analysis")
    ports = {name: processed.suite.ports[f"{name}-health"] for name in names}
    processes = await status.ask({name: f"http://127.0.0.1:{port}" for name, port in ports.items()})
    told = status.as_json(processes)["processes"]
    assert {name: process["state"] for name, process in told.items()} == dict.fromkeys(names, "ready")
    for name, model in (("separation-work", "spleeter_2stems"), ("analysis", "librosa")):
        worker = told[name]["worker"]
        assert (worker["busy"], worker["slots"], worker["models"]) == (0, 1, [model])
        assert worker["silentSeconds"] < 60
        assert max(worker["memoryBytes"].values()) > 50e6


def stemtube(suite: Suite, *arguments: str) -> str:
    command = [sys.executable, "-m", "cli", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=suite.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.long
async def test_a_backup_of_a_running_suite_restores_users_songs_and_edits(processed: ProcessedSong) -> None:
    """The last test: it wipes the suite."""
    suite, vocals = processed.suite, f"/tracks/{processed.track}/stems/spleeter_2stems/vocals"
    edit = {"key": {"tonic": "F#", "mode": "minor"}}
    async with Client(suite.url) as client:
        await client.sign_in("ben", PASSWORD)
        status_code, answer = await client.call("PUT", f"/tracks/{processed.track}/edits", json=edit)
        assert status_code == 200, answer
        before = (await client.get(f"/tracks/{processed.track}"))["track"]
        heard = await client.bytes(vocals)
    folder = str(suite.data / "backup")
    told = await asyncio.to_thread(stemtube, suite, "admin", "backup", folder)
    assert "databases of auth, download, separation, analysis" in told
    await asyncio.to_thread(suite.stop)
    for name in ("databases", "objects", "secrets"):
        shutil.rmtree(suite.data / name)
    await asyncio.to_thread(stemtube, suite, "admin", "restore", folder)
    await asyncio.to_thread(suite.start, "auth", "download", "gateway")
    async with Client(suite.url) as client:
        await client.sign_in("ben", PASSWORD)
        after = (await client.get(f"/tracks/{processed.track}"))["track"]
        assert after == before
        assert (after["key"]["tonic"], after["edits"][0]["part"]) == ("F#", "PART_KEY")
        assert (await client.bytes(vocals))[:2] == heard[:2]
