"""The target of fuzzing: a running suite with accounts that own items, and a check that it is alive."""

import asyncio
import hashlib
import itertools
import json
import os
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.common.rpc.auth import bearer
from services.common.rpc.client import open_channel
from songs.small_songs import music
from stemtube.analysis.v1 import analysis_pb2, analysis_pb2_grpc
from stemtube.auth.v1 import access_token_pb2, access_token_pb2_grpc
from stemtube.separation.v1 import separation_pb2, separation_pb2_grpc
from tests.common.audio_files import with_soundfile
from tests.fuzz.findings import Tally
from tests.suite.client import Client
from tests.suite.conftest import add_user
from tests.suite.running import PASSWORD, Suite

# No worker takes jobs: requests are checked, stored and queued, so a second of fuzzing does not cause minutes of work.
PROCESSES = ("auth", "separation-serve", "analysis-serve", "download", "gateway")
SETTINGS: Mapping[str, object] = {
    "NETWORK__REQUESTS_PER_SECOND": 1e6,
    "NETWORK__REQUEST_BURST": 10**9,
    "DOWNLOAD__JOBS_PER_USER": 10**6,
    "GATEWAY__REQUESTS_PER_SECOND": 1e6,
    "GATEWAY__REQUEST_BURST": 10**9,
}
_TUS = {"Tus-Resumable": "1.0.0", "Upload-Length": "1000"}
_FAULT = b"Traceback (most recent call last)"


@dataclass(frozen=True)
class Account:
    """A user who owns one item of each kind.

    Attributes:
        token: access token.
        ids: of the user's items, by their names in the contracts (`track_id`).
    """

    token: str
    ids: Mapping[str, str]


class Target:
    """A running suite."""

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self._numbers = itertools.count()
        self._read: dict[Path, int] = {}

    def account(self, admin: bool = False) -> Account:
        """A new account, so that changes to it do not affect others."""
        return asyncio.run(self._account(next(self._numbers), admin))

    def admin_token(self) -> str:
        """A token of the first admin."""

        async def sign_in() -> str:
            async with Client(self.suite.url) as admin:
                await admin.sign_in("admin", PASSWORD)
                return admin.token

        return asyncio.run(sign_in())

    def add_user(self, name: str) -> str:
        """Adds a user who has chosen `PASSWORD`; returns the user's id."""

        async def add() -> str:
            await add_user(self.suite, name)
            async with Client(self.suite.url) as user:
                await user.sign_in(name, PASSWORD)
                return str((await user.get("/me"))["user"]["id"])

        return asyncio.run(add())

    async def _account(self, number: int, admin: bool) -> Account:
        name = f"fuzz-{number}"
        async with Client(self.suite.url) as root, Client(self.suite.url) as user:
            await root.sign_in("admin", PASSWORD)
            made = await _done(root, "POST", "/admin/users", {"username": name, "admin": admin})
            await user.sign_in(name, made["oneTimePassword"])
            passwords = {"oldPassword": made["oneTimePassword"], "newPassword": PASSWORD}
            await _done(user, "POST", "/auth/password", passwords)
            await user.sign_in(name, PASSWORD)
            with tempfile.TemporaryDirectory() as folder:
                song = with_soundfile(Path(folder) / f"{name}.flac", music(0.5, seed=number))
                added = await user.uploaded(song)
                key = f"originals/{hashlib.sha256(song.read_bytes()).hexdigest()}"
            track = added["track"]["id"]
            playlist = await _done(user, "POST", "/playlists", {"name": "mine", "trackIds": [track]})
            wanted = {"name": "mine", "scopes": ["read"], "password": PASSWORD}
            token = await _done(user, "POST", "/me/tokens", wanted)
            ids = {
                "track_id": track,
                "job_id": added["job"]["job"]["id"],
                "playlist_id": playlist["playlist"]["id"],
                "api_token_id": token["apiToken"]["id"],
                "upload_id": await user.begin_upload(_TUS),
                **await self._work(key),
            }
            if admin:
                invitation = await _done(user, "POST", "/admin/invitations", {})
                cleanup = await _done(user, "POST", "/admin/cleanups", {"dryRun": True})
                victim = await _done(user, "POST", "/admin/users", {"username": f"{name}-victim"})
                ids |= {
                    "invitation_id": invitation["invitation"]["id"],
                    "cleanup_id": cleanup["cleanup"]["job"]["id"],
                    "user_id": victim["user"]["id"],
                }
            return Account(user.token, ids)

    async def _work(self, key: str) -> dict[str, str]:
        """Queues a separation and an analysis of an object; they stay in their queues."""
        metadata = bearer(await self._service_token())
        common: dict[str, Any] = {"request_id": key[-32:], "audio_key": key, "on_behalf_of": "fuzz"}
        part = analysis_pb2.PartRequest(part=analysis_pb2.PART_KEY, backend="librosa")
        async with (
            open_channel(f"127.0.0.1:{self.suite.ports['separation']}") as separation,
            open_channel(f"127.0.0.1:{self.suite.ports['analysis']}") as analysis,
        ):
            separations: Any = separation_pb2_grpc.SeparationServiceStub(separation)
            analyses: Any = analysis_pb2_grpc.AnalysisServiceStub(analysis)
            stems = separation_pb2.CreateSeparationRequest(**common, model="spleeter_2stems")
            parts = analysis_pb2.CreateAnalysisRequest(**common, parts=[part])
            separated = await separations.CreateSeparation(stems, metadata=metadata, timeout=20)
            analysed = await analyses.CreateAnalysis(parts, metadata=metadata, timeout=20)
        return {
            **common,
            "mix_key": key,
            "separation_id": separated.separation.job.id,
            "analysis_id": analysed.analysis.job.id,
        }

    def service_token(self) -> str:
        """A service's token."""
        return asyncio.run(self._service_token())

    async def _service_token(self) -> str:
        secret = (self.suite.data / "secrets" / "service-secret").read_text()
        async with open_channel(f"127.0.0.1:{self.suite.ports['auth']}") as channel:
            stub: Any = access_token_pb2_grpc.AccessTokenServiceStub(channel)
            request = access_token_pb2.IssueServiceTokenRequest(service="download", secret=secret)
            return str((await stub.IssueServiceToken(request, timeout=20)).access_token)

    def openapi(self) -> dict[str, Any]:
        """The gateway's OpenAPI document."""
        with urllib.request.urlopen(f"{self.suite.url}/api/v1/openapi.json", timeout=20) as answer:
            document: dict[str, Any] = json.load(answer)
        return document

    def check(self, tally: Tally, after: str) -> None:
        """Records as crashes each process that has died or does not answer, and each new traceback in the logs."""
        for name, process in self.suite.processes.items():
            log = self.suite.data / f"{name}.log"
            with log.open("rb") as file:
                file.seek(self._read.get(log, 0))
                told = file.read()
            self._read[log] = self._read.get(log, 0) + len(told)
            if process.poll() is not None:
                tally.note("crashes", f"{name} died after {after}", told[-100_000:])
                self.suite.start(name)
                continue
            for at in _places(told, _FAULT):
                more = told[at : at + 5000].decode(errors="replace")
                tally.note(
                    "crashes", f"traceback in the log of {name} after {after}", told[max(at - 3000, 0) : at], more
                )
            port = self.suite.ports[f"{name}-health"]
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=30):
                    pass
            except OSError as error:
                tally.note("hangs", f"{name} does not answer after {after}", b"", repr(error))


def _places(text: bytes, part: bytes) -> Iterator[int]:
    at = text.find(part)
    while at >= 0:
        yield at
        at = text.find(part, at + 1)


async def _done(client: Client, method: str, path: str, content: dict[str, Any]) -> dict[str, Any]:
    status, answer = await client.call(method, path, json=content)
    assert status == 200, answer
    return answer


@contextmanager
def running_target(data: Path, databases: Mapping[str, str] | None = None) -> Iterator[Target]:
    """Runs a suite.

    Args:
        data: the folder for its logs.
        databases: settings for databases other than SQLite files.
    """
    suite = Suite(data, settings={**SETTINGS, **(databases or {})})
    suite.environment["PYTHONPATH"] += f"{os.pathsep}tests/fuzz/hanging_names"
    try:
        suite.start(*PROCESSES)
        yield Target(suite)
    finally:
        suite.stop()
