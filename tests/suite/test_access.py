"""Other users' data is not found, and access ends with its session or right."""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor

from services.common.errors import Code
from services.common.rpc.client import open_channel
from songs.small_songs import music
from tests.common.audio_files import with_soundfile
from tests.download.site import Site
from tests.suite.client import Client, Json, reason, states
from tests.suite.conftest import add_user
from tests.suite.every_call import TUS, arguments, fill, reflected, refusal
from tests.suite.running import PASSWORD, SERVICES, Suite

KEY_ONLY = {"analyses": [{"part": "PART_KEY", "backend": "librosa"}]}


@dataclass
class Belongings:
    """The admin's library; `shared` is the track of a link that ben has too, with the admin's own stem and key."""

    ids: dict[str, str]
    track: Json
    shared: Json
    shared_job_id: str


@pytest.fixture
async def belongings(client: Client, ben: Client, tmp_path: Path, site: Site) -> AsyncIterator[Belongings]:
    added = await client.uploaded(with_soundfile(tmp_path / "Mine.wav", music(3, seed=4242)), KEY_ONLY)
    await client.end_of(added["job"]["job"]["id"])
    track = (await client.get(f"/tracks/{added['track']['id']}"))["track"]
    _, playlist = await client.call("POST", "/playlists", json={"name": "mine", "trackIds": [track["id"]]})
    _, cleanup = await client.call("POST", "/admin/cleanups", json={"dryRun": True})
    _, token = await client.call("POST", "/me/tokens", json={"name": "mine", "scopes": ["read"], "password": PASSWORD})
    _, invitation = await client.call("POST", "/admin/invitations", json={})
    sessions = (await client.get("/me/sessions"))["sessions"]
    ids = {
        "track_id": track["id"],
        "job_id": added["job"]["job"]["id"],
        "playlist_id": playlist["playlist"]["id"],
        "cleanup_id": cleanup["cleanup"]["job"]["id"],
        "user_id": (await client.get("/me"))["user"]["id"],
        "session_id": next(one["id"] for one in sessions if one["current"]),
        "api_token_id": token["apiToken"]["id"],
        "invitation_id": invitation["invitation"]["id"],
        "upload_id": await client.begin_upload(TUS),
    }
    url = site.put(with_soundfile(tmp_path / f"Ours {uuid.uuid4().hex}.wav", music(3, seed=77)))
    body = {"url": url, "options": KEY_ONLY | {"separations": [{"model": "spleeter_2stems", "stems": ["vocals"]}]}}
    _, linked = await client.call("POST", "/tracks", json=body)
    await client.end_of(linked["job"]["job"]["id"])
    status, _ = await ben.call("POST", "/tracks", json={"url": url, "options": {"analyses": [{"part": "PART_KEY"}]}})
    assert status == 200
    shared = (await client.get(f"/tracks/{linked['track']['id']}"))["track"]
    assert (shared["ownParts"], [stem["own"] for stem in shared["stems"]]) == (["PART_KEY"], [True])
    yield Belongings(ids, track, shared, linked["job"]["job"]["id"])
    await client.call("DELETE", f"/uploads/{ids['upload_id']}", headers=TUS)
    await client.call("DELETE", f"/me/tokens/{ids['api_token_id']}")
    await client.call("DELETE", f"/admin/invitations/{ids['invitation_id']}")
    await client.call("DELETE", f"/playlists/{ids['playlist_id']}")


# Fields besides ids that make a request valid for the owner.
FURTHER: dict[str, Json] = {
    "UpdateTrack": {"title": "stolen"},
    "EditPart": {"key": {"tonic": "C", "mode": "major", "confidence": 1}},
    "RevertPart": {"part": "PART_KEY"},
    "ProcessTrack": {"options": KEY_ONLY},
    "GetMedia": {"kind": "MEDIA_KIND_AUDIO"},
    "GetLiveStems": {"part": "separation"},
    "UpdatePlaylist": {"name": "stolen"},
    "CreatePlaylist": {"name": "with what is not mine"},
}
# Ids of other kinds, which the caller chooses.
OWN = {"request_id", "separation_id", "analysis_id"}


async def test_other_users_ids_are_not_found_by_any_rpc(suite: Suite, ben: Client, belongings: Belongings) -> None:
    tried = set()
    for service in SERVICES:
        async with open_channel(f"127.0.0.1:{suite.ports[service]}") as channel:
            for method in await reflected(channel):
                request = message_factory.GetMessageClass(method.input_type)()
                ids = id_fields(method)
                if not ids:
                    continue
                json_format.ParseDict(FURTHER.get(method.name, {}), request)
                for field in ids:
                    owned = belongings.ids[field.name.removesuffix("s")]
                    value = [owned] if field.is_repeated else owned
                    json_format.ParseDict({field.name: value}, request)
                code, why = await refusal(channel, method, request.SerializeToString(), ben.token)
                tried.add(method.name)
                if "job_id" in request.DESCRIPTOR.fields_by_name:
                    json_format.ParseDict({"job_id": belongings.shared_job_id}, request)
                    shared = await refusal(channel, method, request.SerializeToString(), ben.token)
                    assert shared[0] is Code.NOT_FOUND, f"{method.name} of a shared track"
                if why in ("ADMIN_REQUIRED", "SERVICE_REQUIRED"):
                    continue
                if method.name == "ListJobs":
                    listed = await ben.get(f"/jobs?trackId={belongings.ids['track_id']}")
                    assert listed["jobs"] == []
                    continue
                assert code is Code.NOT_FOUND, f"{method.name}: {code} {why}"
    assert tried >= {"GetTrack", "DeleteTrack", "GetMedia", "WatchJob", "CancelJob", "EndSession", "DeleteApiToken"}
    assert tried >= {"UpdateUser", "ResetPassword", "GetCleanup", "GetPlaylist", "AddPlaylistTracks"}
    assert (await ben.get("/playlists"))["playlists"] == []


def id_fields(method: MethodDescriptor) -> list[FieldDescriptor]:
    return [
        field for field in method.input_type.fields if field.name.endswith(("_id", "_ids")) and field.name not in OWN
    ]


async def test_other_users_ids_are_not_found_on_any_route(
    suite: Suite, client: Client, ben: Client, belongings: Belongings
) -> None:
    document = await client.get("/openapi.json")
    tried = 0
    for path, verbs in document["paths"].items():
        variables = set(re.findall(r"\{(\w+)\}", path))
        if not variables & set(belongings.ids):
            continue
        for verb, operation in verbs.items():
            if verb == "options":
                continue
            below = fill(path.removeprefix("/api/v1"), belongings.ids)
            method = verb.upper()
            body = FURTHER.get(operation["operationId"], {})
            sent: dict[str, Any] = {"json": body} if "requestBody" in operation else {}
            if "/uploads/" in path:
                sent = arguments(method, path, operation)
            if operation["operationId"] == "AddPlaylistTracks":
                sent = {"json": {"trackIds": [belongings.ids["track_id"]]}}
            if "101" in operation["responses"]:
                status, _, _ = await ben.bytes(below, Accept="text/event-stream")
                assert status == 404, f"{method} {path}"
                continue
            status, answer = await ben.call(method, below, **sent)
            if "/admin/" in path:
                assert (status, reason(answer)) == (403, "ADMIN_REQUIRED"), f"{method} {path}"
            else:
                assert status == 404, f"{method} {path}: {answer}"
            tried += 1
    assert tried >= 20
    # The ids were right: the owner finds everything unchanged.
    assert (await client.get(f"/tracks/{belongings.ids['track_id']}"))["track"] == belongings.track
    for path, name in (("/jobs/", "job_id"), ("/playlists/", "playlist_id"), ("/admin/cleanups/", "cleanup_id")):
        await client.get(path + belongings.ids[name])
    status, _, _ = await client.bytes(f"/tracks/{belongings.ids['track_id']}/audio")
    assert status == 200


async def test_a_second_owner_of_a_link_cannot_see_or_change_the_firsts_own_results(
    suite: Suite, client: Client, ben: Client, belongings: Belongings
) -> None:
    path = f"/tracks/{belongings.shared['id']}"
    seen = (await ben.get(path))["track"]
    assert (seen["stems"], seen["ownParts"]) == ([], [])
    stem = belongings.shared["stems"][0]["audio"].removeprefix("/api/v1")
    for below in (
        stem,
        f"{stem}?format=mp3",
        f"{stem}/peaks",
        f"{path}/exports/stems",
        f"{path}/exports/mixdown?stems=vocals",
    ):
        status, _, _ = await ben.bytes(below)
        assert status in (404, 409), below
        if "mixdown" not in below:
            status, _, _ = await client.bytes(below)
            assert status == 200, below
    # His requests for the shared track do not change the first owner's results.
    sent = set()
    async with open_channel(f"127.0.0.1:{suite.ports['download']}") as channel:
        for method in sorted(await reflected(channel), key=lambda method: method.name == "DeleteTrack"):
            request = message_factory.GetMessageClass(method.input_type)()
            if "track_id" not in request.DESCRIPTOR.fields_by_name or method.client_streaming:
                continue
            json_format.ParseDict(FURTHER.get(method.name, {}) | {"track_id": belongings.shared["id"]}, request)
            code, why = await refusal(channel, method, request.SerializeToString(), ben.token)
            assert (code, why) == (Code.UNKNOWN, ""), f"{method.name}: {code} {why}"
            sent.add(method.name)
            for job in (await ben.get("/jobs"))["jobs"]:
                await ben.end_of(job["job"]["id"])
            assert (await client.get(path))["track"] == belongings.shared, method.name
    assert sent >= {"UpdateTrack", "EditPart", "RevertPart", "ProcessTrack", "DeleteTrack", "RestoreTrack"}


async def test_an_ended_session_is_refused_by_every_service_and_its_streams_end(suite: Suite, ben: Client) -> None:
    async with ben.events() as socket, Client(suite.url) as other:
        await socket.receive_json()
        await other.sign_in("ben", PASSWORD)
        assert (await other.call("DELETE", "/me/sessions"))[0] == 200
        async with asyncio.timeout(60):  # what is promised
            async for _message in socket:
                pass
        assert socket.close_code == 4000 + Code.UNAUTHENTICATED
    status, answer = await ben.call("GET", "/tracks")
    assert (status, reason(answer)) == (401, "SESSION_ENDED")


@pytest.mark.long
async def test_a_demoted_admin_loses_admin_rights_in_every_service_within_a_minute(
    suite: Suite, client: Client
) -> None:
    await add_user(suite, "dora")
    users = (await client.get("/admin/users?pageSize=1000"))["users"]
    path = f"/admin/users/{next(user['id'] for user in users if user['username'] == 'dora')}"
    assert (await client.call("PATCH", path, json={"admin": True}))[0] == 200
    async with Client(suite.url) as dora, Client(suite.url) as script:
        await dora.sign_in("dora", PASSWORD)
        wanted = {"name": "mine", "scopes": ["read", "admin"], "password": PASSWORD}
        _, made = await dora.call("POST", "/me/tokens", json=wanted)
        script.token = made["secret"]
        for one in (dora, script):
            for admins in ("/admin/users", "/admin/storage"):
                assert (await one.call("GET", admins))[0] == 200
        async with dora.events() as socket:
            await socket.receive_json()
            assert (await client.call("PATCH", path, json={"admin": False}))[0] == 200
            async with asyncio.timeout(60):  # what is promised
                for one in (dora, script):
                    for admins in ("/admin/users", "/admin/storage"):
                        while (await one.call("GET", admins))[0] != 401:
                            await asyncio.sleep(0.5)
                async for _message in socket:
                    pass


async def test_a_users_waiting_jobs_are_limited_and_others_are_not_affected(
    suite: Suite, client: Client, ben: Client, tmp_path: Path
) -> None:
    """Links that hang use up one user's share of running jobs, not the shares of others."""
    answering = asyncio.Event()
    song = with_soundfile(tmp_path / "song.flac", music(3, seed=91))

    async def never(_request: web.Request) -> web.Response:
        await answering.wait()
        return web.Response(status=404)

    async def at_once(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(song)

    app = web.Application()
    app.router.add_get("/{name}.mp3", never)
    app.router.add_get("/other.flac", at_once)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    site = f"http://127.0.0.1:{runner.addresses[0][1]}"
    started = []
    try:
        for number in range(41):
            status, added = await ben.call("POST", "/tracks", json={"url": f"{site}/{number}.mp3"})
            if status != 200:
                break
            started.append(added)
        assert (len(started), status, reason(added)) == (20, 429, "TOO_MANY_JOBS")
        status, other = await client.call("POST", "/tracks", json={"url": f"{site}/other.flac", "options": KEY_ONLY})
        assert status == 200
        uploaded = await client.uploaded(song, KEY_ONLY)
        for added in (other, uploaded):
            ended = await client.end_of(added["job"]["job"]["id"])
            assert set(states(ended).values()) == {"succeeded"}
        waiting = [(await ben.get(f"/jobs/{added['job']['job']['id']}"))["job"]["job"]["state"] for added in started]
        assert set(waiting) <= {"JOB_STATE_QUEUED", "JOB_STATE_RUNNING"}, "they ended before the others"
        await client.call("DELETE", f"/tracks/{other['track']['id']}")
        await client.call("DELETE", f"/tracks/{uploaded['track']['id']}")
    finally:
        # Before the site answers: a link without a song removes its track by itself.
        for added in started:
            await ben.call("DELETE", f"/tracks/{added['track']['id']}")
        answering.set()
        await runner.cleanup()
    audited = [line for line in (suite.data / "download.log").read_text().splitlines() if "audit=True" in line]
    for added in started:
        assert any("track deleted" in line and added["track"]["id"] in line for line in audited)
