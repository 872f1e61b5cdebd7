"""Ids of requests over HTTP and gRPC: the same request gets the same answer, a different one is refused."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from services.common.errors import Code
from services.common.rpc.client import final_answer
from songs.small_songs import music
from stemtube.download.v1 import track_job_pb2, upload_pb2
from tests.common.audio_files import with_soundfile
from tests.download.site import Site
from tests.suite.client import Client, Json, reason
from tests.suite.grpc_client import GrpcClient, refusal

KEY: Json = {"analyses": [{"part": "PART_KEY", "backend": "librosa"}]}
BEATS: Json = {"analyses": [{"part": "PART_BEATS", "backend": "librosa"}]}


def song(folder: Path, name: str, seed: int) -> Path:
    return with_soundfile(folder / name, music(3, seed=seed))


async def track_ids(client: Client) -> set[str]:
    return {track["id"] for track in (await client.get("/tracks?pageSize=200"))["tracks"]}


async def refused(client: Client, path: str, body: Json) -> None:
    before = await track_ids(client), len((await client.get("/jobs?pageSize=200"))["jobs"])
    status, answer = await client.call("POST", path, json=body)
    assert (status, reason(answer)) == (409, "REQUEST_ID_REUSED"), answer
    assert (await track_ids(client), len((await client.get("/jobs?pageSize=200"))["jobs"])) == before


async def test_a_link_with_a_used_id_is_refused(client: Client, ben: Client, site: Site, tmp_path: Path) -> None:
    one, two = (site.put(song(tmp_path, f"{uuid.uuid4().hex}.wav", seed)) for seed in (1, 2))
    body: Json = {"requestId": str(uuid.uuid4()), "url": one, "options": KEY}
    status, first = await client.call("POST", "/tracks", json=body)
    assert status == 200, first
    await client.end_of(first["job"]["job"]["id"])
    status, again = await client.call("POST", "/tracks", json=body)
    assert (status, again["track"]["id"]) == (200, first["track"]["id"])
    assert again["job"]["job"]["id"] == first["job"]["job"]["id"]
    for other in ({"url": two}, {"options": BEATS}, {"options": {**KEY, "priority": "PRIORITY_BATCH"}}):
        await refused(client, "/tracks", body | other)
    await refused(client, f"/tracks/{first['track']['id']}/process", {"requestId": body["requestId"], "options": KEY})
    # Another user may use the same id, and a refused request does not use it up.
    status, other_users = await ben.call("POST", "/tracks", json=body | {"url": two})
    assert status == 200
    assert other_users["job"]["job"]["id"] != first["job"]["job"]["id"]
    free = {"requestId": str(uuid.uuid4()), "url": "ftp://nowhere"}
    assert (await client.call("POST", "/tracks", json=free))[0] == 400
    assert (await client.call("POST", "/tracks", json=free | {"url": two, "options": KEY}))[0] == 200


async def test_a_redo_with_a_used_id_is_refused(client: Client, tmp_path: Path) -> None:
    added = await client.uploaded(song(tmp_path, "redo.wav", 11), KEY)
    await client.end_of(added["job"]["job"]["id"])
    path = f"/tracks/{added['track']['id']}/process"
    body = {"requestId": "redo-1", "options": KEY}
    status, first = await client.call("POST", path, json=body)
    assert status == 200
    status, again = await client.call("POST", path, json=body)
    assert (status, again["job"]["job"]["id"]) == (200, first["job"]["job"]["id"])
    await refused(client, path, body | {"options": BEATS})


async def test_only_one_of_different_links_with_the_same_id_is_added(
    client: Client, site: Site, tmp_path: Path
) -> None:
    urls = [site.put(song(tmp_path, f"{uuid.uuid4().hex}.wav", seed)) for seed in range(4)]
    before = await track_ids(client)
    bodies = [{"requestId": "at-once", "url": url, "options": KEY} for url in urls]
    answers = await asyncio.gather(*(client.call("POST", "/tracks", json=body) for body in [*bodies, *bodies]))
    won = [answer for status, answer in answers if status == 200]
    assert {(status, reason(answer)) for status, answer in answers if status != 200} == {(409, "REQUEST_ID_REUSED")}
    assert len(won) == 2
    assert len({answer["job"]["job"]["id"] for answer in won}) == 1
    assert len(await track_ids(client) - before) == 1
    assert (await client.end_of(won[0]["job"]["job"]["id"]))["job"]["state"] == "JOB_STATE_SUCCEEDED"


def upload(path: Path, filename: str = "", **header: Any) -> Any:
    async def requests() -> AsyncIterator[upload_pb2.UploadTrackRequest]:
        yield upload_pb2.UploadTrackRequest(header=upload_pb2.UploadHeader(filename=filename or path.name, **header))
        content = await asyncio.to_thread(path.read_bytes)
        for start in range(0, len(content), 1 << 18):
            yield upload_pb2.UploadTrackRequest(chunk=content[start : start + (1 << 18)])

    return requests()


async def test_an_uploads_id_belongs_to_its_header_and_content(
    grpc_client: GrpcClient, ben: Client, tmp_path: Path
) -> None:
    one, two = song(tmp_path, "one.wav", 21), song(tmp_path, "two.wav", 22)
    options = track_job_pb2.ProcessingOptions(analyses=[track_job_pb2.AnalysisChoice(part=2, backend="librosa")])  # type: ignore[arg-type]
    said: dict[str, Any] = {"request_id": str(uuid.uuid4()), "filename": "song.wav", "options": options}

    def send(path: Path, **changed: Any) -> Any:
        return final_answer(
            grpc_client.uploads.UploadTrack(upload(path, **said | changed), metadata=grpc_client.metadata)
        )

    first = await send(one)
    before = await track_ids(ben)
    again = await send(one)
    assert (again.track.id, again.job.job.id) == (first.track.id, first.job.job.id)
    for other in (send(two), send(one, filename="other.wav"), send(two, options=None)):
        error = await refusal(other)
        assert (error.code, error.reason) == (Code.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    assert await track_ids(ben) == before
    # Of two files at once with one id, one is stored.
    said["request_id"] = str(uuid.uuid4())
    outcomes = await asyncio.gather(
        *(send(song(tmp_path, f"{seed}.wav", seed)) for seed in (31, 32)), return_exceptions=True
    )
    assert sum(isinstance(outcome, upload_pb2.UploadTrackResponse) for outcome in outcomes) == 1
    assert len(await track_ids(ben) - before) == 1


@pytest.mark.parametrize("kind", ["form", "body"])
async def test_an_upload_by_http_likewise(client: Client, tmp_path: Path, kind: str) -> None:
    request_id = str(uuid.uuid4())

    async def send(path: Path) -> tuple[int, Json]:
        content = await asyncio.to_thread(path.read_bytes)
        if kind == "body":
            headers = {"Content-Type": "application/octet-stream"}
            parameters = {"filename": "a.wav", "requestId": request_id}
            return await client.call("POST", "/tracks/upload", headers, params=parameters, data=content)
        form = aiohttp.FormData()
        form.add_field("requestId", request_id)
        form.add_field("file", content, filename="a.wav")
        return await client.call("POST", "/tracks/upload", data=form)

    seeds = (41, 42) if kind == "form" else (43, 44)
    one, two = (song(tmp_path, f"{seed}.wav", seed) for seed in seeds)
    status, first = await send(one)
    assert status == 200, first
    assert (await send(one))[1]["job"]["job"]["id"] == first["job"]["job"]["id"]
    before = await track_ids(client)
    status, answer = await send(two)
    assert (status, reason(answer)) == (409, "REQUEST_ID_REUSED")
    assert await track_ids(client) == before
    assert (await client.call("POST", f"/jobs/{first['job']['job']['id']}/cancel", json={}))[0] == 200
