"""A rolling update: every process is replaced in turn while people work, and nobody notices.

There are two of each serving process, and workers, as on Kubernetes. A process first leaves the gateways' list, as a
pod leaves that of its Service, is then asked to end and must end cleanly; its successor starts at the same address.
"""

import asyncio
import itertools
import json
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import create_engine, text

from services.common.jobs.states import FINISHED_JSON_NAMES
from songs.small_songs import music
from tests.common.audio_files import with_soundfile
from tests.suite.client import Client, Json, states
from tests.suite.running import PASSWORD, PATIENCE_SECONDS, Suite

pytestmark = pytest.mark.long
REPLICAS = {
    "auth": ("auth", "auth-2"),
    "download": ("download", "download-2"),
    "separation": ("separation-serve", "separation-serve-2"),
    "analysis": ("analysis-serve", "analysis-serve-2"),
}
SEPARATION_WORKERS, ANALYSIS_WORKER = ("separation-work", "separation-work-2"), "analysis-work"
GATEWAYS = ("gateway", "gateway-2")
KEY_ONLY = {"analyses": [{"part": "PART_KEY", "backend": "librosa"}]}
OPTIONS = KEY_ONLY | {"separations": [{"model": "spleeter_2stems"}]}
CONNECT_AGAIN = (1012, 1013)
PRE_STOP_SECONDS = 0.2


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Suite]:
    # As deploy/k8s gives them.
    graces = {"GATEWAY__SHUTDOWN_SECONDS": 60, "DOWNLOAD__GRACE_SECONDS": 60}
    graces |= {"SEPARATION__GRACE_SECONDS": 20, "ANALYSIS__GRACE_SECONDS": 20}
    graces |= {"DOWNLOAD__JOBS_PER_USER": 1000}  # the default: jobs wait while their workers are replaced
    suite = Suite(tmp_path / "cluster", settings=graces)
    suite.data.mkdir()
    for service, names in REPLICAS.items():
        ports = [suite.ports[service], suite.ports[names[1]]]
        suite.ports[names[0]], suite.ports[f"{names[0]}-health"] = ports[0], suite.ports[f"{service}-health"]
        suite.environment[f"STEMTUBE_ADDRESS__{service.upper()}"] = "ipv4:///" + ",".join(
            f"127.0.0.1:{port}" for port in ports
        )
    try:
        for replicas in (*REPLICAS.values(), (*SEPARATION_WORKERS, ANALYSIS_WORKER), GATEWAYS):
            suite.start(*replicas)
        yield suite
    finally:
        suite.stop(PATIENCE_SECONDS)


class Visitors:
    """Users of the gateways in the list, each gateway in turn.

    They follow the rules of docs/operations.md: they reopen an event stream that ends with 1012 or 1013, or breaks.
    """

    def __init__(self, clients: dict[str, Client], folder: Path) -> None:
        self._clients = clients
        self._turns = itertools.count()
        self._folder = folder
        self.listed = set(clients)
        self.failures: list[str] = []
        self.done: Counter[str] = Counter()
        self.jobs: dict[str, str] = {}

    @property
    def client(self) -> Client:
        names = sorted(self.listed)
        return self._clients[names[next(self._turns) % len(names)]]

    def check(self, what: str, good: bool, answer: object) -> None:
        self.done[what] += 1
        if not good:
            self.failures.append(f"{what}: {answer}")

    async def read(self, track_id: str) -> None:
        status, answer = await self.client.call("GET", f"/tracks/{track_id}")
        self.check("read", status == 200 and answer["track"]["id"] == track_id, (status, answer))

    async def listen(self, track_id: str, content: bytes) -> None:
        status, data, _ = await self.client.bytes(f"/tracks/{track_id}/audio", Range="bytes=1000-1999")
        self.check("range", status == 206 and data == content[1000:2000], (status, data[:200]))

    async def upload(self) -> None:
        path = self._song()
        status, answer = await self.client.upload(path, OPTIONS)
        self.check("upload", status == 200, (status, answer))
        if status == 200:
            self.jobs[answer["job"]["job"]["id"]] = answer["track"]["id"]
        await asyncio.sleep(2.0)

    async def upload_in_pieces(self) -> None:
        content = self._song().read_bytes()
        tus = {"Tus-Resumable": "1.0.0"}
        options = b64encode(json.dumps(KEY_ONLY).encode()).decode()
        told = {"Upload-Length": str(len(content)), "Upload-Metadata": f"options {options}"}
        upload = await self.client.begin_upload(tus | told)
        half = len(content) // 2
        for start, end in ((0, half), (half, len(content))):
            headers = tus | {"Upload-Offset": str(start), "Content-Type": "application/offset+octet-stream"}
            status, answer = await self.client.call("PATCH", f"/uploads/{upload}", headers, data=content[start:end])
            self.check("piece", status == 204, (status, answer))
        await asyncio.sleep(1.0)

    def _song(self) -> Path:
        number = next(self._turns)
        return with_soundfile(self._folder / f"{number}.flac", music(3, seed=1000 + number))

    async def follow_library(self) -> None:
        """Reads one event stream until it ends."""
        try:
            async with self.client.events() as socket:
                self.done["events"] += 1
                async for message in socket:
                    assert json.loads(message.data), message
            if socket.close_code not in CONNECT_AGAIN:
                self.failures.append(f"events: closed with {socket.close_code}")
        except aiohttp.ClientError as error:
            self.failures.append(f"events: {error!r}")

    async def end_of(self, job_id: str) -> Json:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                async with self.client.watch(job_id) as socket:
                    async for message in socket:
                        job: Json = json.loads(message.data).get(
                            "job", {}
                        )  # the last message may say why the stream ends
                        if job and job["job"]["state"] in FINISHED_JSON_NAMES:
                            return job
                    if socket.close_code not in CONNECT_AGAIN:
                        self.failures.append(f"watch: closed with {socket.close_code}")
                await asyncio.sleep(0.2)


async def again_and_again(visit: Callable[[], Coroutine[Any, Any, None]], visitors: Visitors) -> None:
    while True:
        try:
            await visit()
        except (aiohttp.ClientError, AssertionError) as error:
            visitors.failures.append(f"{visit}: {error!r}")
        await asyncio.sleep(0.05)


async def replace_all(cluster: Suite, visitors: Visitors) -> None:
    """Replaces every process in turn, while another one of each kind serves."""

    async def replace(name: str) -> None:
        visitors.listed.discard(name)
        await asyncio.sleep(PRE_STOP_SECONDS)
        status = await asyncio.to_thread(cluster.end, name)
        assert status == 0, f"{name} ended with status {status}"
        await asyncio.to_thread(cluster.start, name)
        if name in GATEWAYS:
            visitors.listed.add(name)

    first, second = zip(*REPLICAS.values(), GATEWAYS, SEPARATION_WORKERS, strict=True)
    await asyncio.gather(*map(replace, (*first, ANALYSIS_WORKER)))
    await asyncio.gather(*map(replace, second))


@pytest.fixture
async def visitors(cluster: Suite, tmp_path: Path) -> AsyncIterator[Visitors]:
    clients = {name: Client(f"http://127.0.0.1:{cluster.ports[name]}") for name in GATEWAYS}
    for client in clients.values():
        await client.sign_in("admin", PASSWORD)
    yield Visitors(clients, tmp_path)
    for client in clients.values():
        await client.__aexit__()


async def test_every_process_is_replaced_and_nobody_notices(cluster: Suite, visitors: Visitors, tmp_path: Path) -> None:
    song = with_soundfile(tmp_path / "song.flac", music(20, seed=999))
    track_id = (await visitors.client.uploaded(song, KEY_ONLY))["track"]["id"]
    content = song.read_bytes()
    working = [
        asyncio.create_task(again_and_again(visit, visitors))
        for visit in (
            lambda: visitors.read(track_id),
            lambda: visitors.listen(track_id, content),
            visitors.upload,
            visitors.upload_in_pieces,
            visitors.follow_library,
        )
    ]
    await replace_all(cluster, visitors)
    for task in working:
        task.cancel()
    await asyncio.gather(*working, return_exceptions=True)
    assert min(visitors.done[what] for what in ("read", "range", "upload", "piece", "events")) >= 2, visitors.done
    ended = [await visitors.end_of(job_id) for job_id in visitors.jobs]
    assert visitors.failures == []
    assert all(set(states(job).values()) == {"succeeded"} for job in ended)
    check_each_done_once(cluster, len(visitors.jobs))


def check_each_done_once(cluster: Suite, uploads: int) -> None:
    """Each mix has one job, and each job the stems of one attempt."""
    with create_engine(f"sqlite:///{cluster.data}/databases/separation.sqlite").connect() as connection:
        rows = connection.execute(text("SELECT subject, state FROM job")).all()
    jobs = Counter(subject for subject, _ in rows)
    assert {state for _, state in rows} == {"succeeded"}
    assert set(jobs.values()) == {1}
    stems = cluster.data / "objects" / "stems"
    assert len(list(stems.glob("*/*"))) == len(list(stems.glob("*"))) == len(jobs) >= uploads
