"""The library over HTTP: owners of tracks, their texts, and the rights of admins."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from songs.small_songs import music
from tests.common.audio_files import with_soundfile
from tests.suite.client import Client, Json, reason
from tests.suite.running import PASSWORD, ROOT, Suite

KEY_ONLY = {"analyses": [{"part": "PART_KEY", "backend": "librosa"}]}


@pytest.fixture
async def track(client: Client, tmp_path: Path) -> Json:
    added = await client.uploaded(with_soundfile(tmp_path / "Shelf song.wav", music(4, seed=77)), KEY_ONLY)
    await client.end_of(added["job"]["job"]["id"])
    track: Json = (await client.get(f"/tracks/{added['track']['id']}"))["track"]
    return track


async def done(client: Client, method: str, path: str, **body: Any) -> Json:
    status, answer = await client.call(method, path, **({"json": body} if body else {}))
    assert status == 200, answer
    return answer


async def test_a_track_is_renamed_found_corrected_reverted_deleted_and_restored(client: Client, track: Json) -> None:
    path = f"/tracks/{track['id']}"
    named = (await done(client, "PATCH", path, title="Zanzibar", favourite=True, notes="capo 2\nslow"))["track"]
    assert (named["title"], named["originalTitle"], named["favourite"]) == ("Zanzibar", "Shelf song", True)
    found = await client.get("/tracks?query=zanzi&favourites=true&order=TRACK_ORDER_TITLE")
    assert [one["id"] for one in found["tracks"]] == [track["id"]]

    key = {"tonic": "F#", "mode": "minor", "confidence": 1}
    edited = (await done(client, "PUT", f"{path}/edits", key=key))["track"]
    assert (edited["key"]["tonic"], edited["key"]["madeBy"]["backend"]) == ("F#", "edit")
    assert [(edit["part"], edit["computedSince"]) for edit in edited["edits"]] == [("PART_KEY", False)]
    found = await client.get("/tracks?keyTonic=Gb&keyMode=minor&query=zanzibar")
    assert [one["key"]["tonic"] for one in found["tracks"]] == ["F#"]
    assert (await client.get(f"{path}?computed=true"))["track"]["key"] == track["key"]
    reverted = (await done(client, "DELETE", f"{path}/edits/PART_KEY"))["track"]
    assert reverted["key"] == track["key"]
    chords = {"chords": [{"start": 0, "end": track["durationSeconds"], "label": "Q"}]}
    status, answer = await client.call("PUT", f"{path}/edits", json={"chords": chords})
    assert (status, reason(answer)) == (400, "BAD_CHORD")

    await done(client, "DELETE", path)
    status, answer = await client.call("GET", path)
    assert (status, reason(answer)) == (404, "NO_SUCH_TRACK")
    deleted = await client.get("/tracks?deleted=true&query=zanzibar")
    assert [bool(one["deleteTime"]) for one in deleted["tracks"]] == [True]
    assert (await done(client, "POST", f"{path}/restore"))["track"]["notes"] == "capo 2\nslow"


async def test_a_setlist_over_http(client: Client, track: Json) -> None:
    made = (await done(client, "POST", "/playlists", name="Friday", trackIds=[track["id"]]))["playlist"]
    path = f"/playlists/{made['id']}"
    assert made["trackIds"] == [track["id"]]
    assert made["id"] in [one["id"] for one in (await client.get("/playlists"))["playlists"]]
    listed = await client.get(f"/tracks?playlistId={made['id']}")
    assert [one["id"] for one in listed["tracks"]] == [track["id"]]
    emptied = await done(client, "PATCH", path, tracks={"trackIds": []}, revision=made["revision"])
    assert emptied["playlist"]["trackIds"] == []
    status, answer = await client.call("PATCH", path, json={"name": "Late", "revision": made["revision"]})
    assert (status, reason(answer)) == (409, "REVISION_CHANGED")
    await done(client, "POST", f"{path}/tracks", trackIds=[track["id"]])
    assert (await client.get(path))["playlist"]["trackCount"] == 1
    await done(client, "DELETE", path)
    status, answer = await client.call("GET", path)
    assert (status, reason(answer)) == (404, "NO_SUCH_PLAYLIST")


async def test_other_users_cannot_change_or_see_a_track(client: Client, ben: Client, track: Json) -> None:
    made = (await done(client, "POST", "/playlists", name="Mine"))["playlist"]
    path, playlist = f"/tracks/{track['id']}", f"/playlists/{made['id']}"
    for method, where, body, expected in (
        ("PATCH", path, {"favourite": True}, "NO_SUCH_TRACK"),
        ("PUT", f"{path}/edits", {"key": {}}, "NO_SUCH_TRACK"),
        ("DELETE", f"{path}/edits/PART_KEY", None, "NO_SUCH_TRACK"),
        ("DELETE", f"{path}?permanently=true", None, "NO_SUCH_TRACK"),
        ("POST", f"{path}/restore", {}, "NO_SUCH_TRACK"),
        ("POST", "/playlists", {"name": "x", "trackIds": [track["id"]]}, "NO_SUCH_TRACK"),
        ("GET", playlist, None, "NO_SUCH_PLAYLIST"),
        ("PATCH", playlist, {"name": "x"}, "NO_SUCH_PLAYLIST"),
        ("DELETE", playlist, None, "NO_SUCH_PLAYLIST"),
        ("GET", f"/tracks?playlistId={made['id']}", None, "NO_SUCH_PLAYLIST"),
    ):
        arguments: Json = {"json": body} if body is not None else {}
        status, answer = await ben.call(method, where, **arguments)
        assert (status, reason(answer)) == (404, expected), (method, where)


@pytest.mark.parametrize(
    "body",
    [{"title": " "}, {"title": "x" * 301}, {"artist": "a\nb"}, {"notes": "x" * 10_001}, {"notes": "a\x00b"}],
    ids=["no title", "long title", "line break", "long notes", "NUL"],
)
async def test_names_and_notes_of_a_track_have_limits(client: Client, track: Json, body: Json) -> None:
    status, answer = await client.call("PATCH", f"/tracks/{track['id']}", json=body)
    assert (status, reason(answer)) == (400, "BAD_REQUEST")


async def test_only_admins_see_statistics_and_clean_up(client: Client, ben: Client, track: Json, suite: Suite) -> None:
    use = await client.get("/storage")
    assert int(use["usedBytes"]) > 0
    numbers = await client.get("/admin/statistics")
    assert int(numbers["trackCount"]) >= 1
    for method, path in (("GET", "/admin/statistics"), ("POST", "/admin/cleanups"), ("GET", "/admin/cleanups/x")):
        status, answer = await ben.call(method, path, **({"json": {}} if method == "POST" else {}))
        assert (status, reason(answer)) == (403, "ADMIN_REQUIRED")
    arguments = ("admin", "cleanup", "--dry-run", "--url", suite.url, "--user", "admin", "--password", PASSWORD)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", *arguments),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "protos/gen", "STEMTUBE_DATA_DIR": str(suite.data)},
        stdout=asyncio.subprocess.PIPE,
    )
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0
    assert "objects that nothing needs: 0 (0.0 MB) would be removed" in output
    jobs = await client.get("/jobs")
    assert {job["job"]["kind"] for job in jobs["jobs"]} == {"track"}
