"""One link, two users, over HTTP: neither sees the other's own choices, nor gets events about them."""

import asyncio
import json
from pathlib import Path

import pytest

from services.common.jobs.states import FINISHED_JSON_NAMES
from songs.small_songs import music
from tests.common.audio_files import with_soundfile
from tests.download.site import Site
from tests.suite.client import Client, Json, states

KEY: Json = {"analyses": [{"part": "PART_KEY"}]}
CHOSEN: Json = {"analyses": [{"part": "PART_KEY", "backend": "librosa"}], "separations": [{"stems": ["no_vocals"]}]}


async def made(client: Client, path: str, body: Json) -> Json:
    status, answer = await client.call("POST", path, json=body)
    assert status == 200, answer
    ended = await client.end_of(answer["job"]["job"]["id"])
    assert set(states(ended).values()) == {"succeeded"}, ended
    track: Json = (await client.get(f"/tracks/{ended['trackId']}"))["track"]
    return track


@pytest.mark.parametrize("order", ["the chooser first", "the chooser second"])
async def test_each_owner_has_their_own_choices(
    client: Client, ben: Client, site: Site, tmp_path: Path, order: str
) -> None:
    url = site.put(with_soundfile(tmp_path / f"{order}.wav", music(4, seed=len(order))))
    if order == "the chooser first":
        chosen = await made(client, "/tracks", {"url": url, "options": CHOSEN})
        plain = await made(ben, "/tracks", {"url": url, "options": KEY})
    else:
        plain = await made(ben, "/tracks", {"url": url, "options": KEY})
        chosen = await made(client, "/tracks", {"url": url, "options": CHOSEN})
    assert plain["id"] == chosen["id"]
    path = f"/tracks/{plain['id']}"
    assert plain == (await ben.get(path))["track"]
    assert (plain["ownParts"], plain["stems"]) == ([], [])
    assert plain["key"]["madeBy"]["backend"] != "librosa"
    assert (chosen["ownParts"], [stem["name"] for stem in chosen["stems"]]) == (["PART_KEY"], ["no_vocals"])
    assert (await client.get(path))["track"] == chosen
    stem = chosen["stems"][0]["audio"].removeprefix("/api/v1")
    for below in (stem, f"{stem}?format=wav", f"{stem}/peaks", f"{path}/exports/stems"):
        assert [(await one.bytes(below))[0] for one in (client, ben)] == [200, 404], below
    # Lists show the same as the track.
    for one, track in ((client, chosen), (ben, plain)):
        key = track["key"]
        asked = f"/tracks?pageSize=200&keyTonic={key['tonic'].replace('#', '%23')}&keyMode={key['mode']}"
        listed = {found["id"]: found for found in (await one.get(asked))["tracks"]}
        assert listed[track["id"]]["stems"] == track["stems"]


async def test_a_users_job_and_words_do_not_reach_the_other_owner(
    client: Client, ben: Client, site: Site, tmp_path: Path
) -> None:
    url = site.put(with_soundfile(tmp_path / "watched.wav", music(4, seed=5)))
    track = await made(ben, "/tracks", {"url": url, "options": KEY})
    await made(client, "/tracks", {"url": url, "options": KEY})
    words = "nobody else shall read this"
    options = {"separations": [{}], "analyses": [{"part": "PART_LYRICS", "text": words, "model": "tiny.en"}]}
    heard: list[str] = []
    async with ben.events() as socket:
        while json.loads((await socket.receive(timeout=10)).data) != {"snapshotEnd": {}}:
            pass
        status, answer = await client.call("POST", f"/tracks/{track['id']}/process", json={"options": options})
        assert status == 200, answer
        job_id = answer["job"]["job"]["id"]
        ended = await client.end_of(job_id)
        assert ended["job"]["state"] in FINISHED_JSON_NAMES
        # Ben gets events of his own job, and none before it.
        status, other = await ben.call("POST", f"/tracks/{track['id']}/process", json={"options": KEY})
        assert status == 200
        async with asyncio.timeout(60):
            async for message in socket:
                heard.append(message.data)
                job = json.loads(message.data).get("job", {}).get("job", {})
                if job.get("id") == other["job"]["job"]["id"] and job["state"] in FINISHED_JSON_NAMES:
                    break
    assert heard
    assert not [event for event in heard if job_id in event or words in event]
    assert job_id not in json.dumps(await ben.get("/jobs?pageSize=200"))
    assert words not in json.dumps((await ben.get(f"/tracks/{track['id']}"))["track"])
    assert (await ben.call("GET", f"/jobs/{job_id}"))[0] == 404
    # The separation was automatic and the first, so it is for both.
    assert {stem["name"] for stem in (await ben.get(f"/tracks/{track['id']}"))["track"]["stems"]} >= {"vocals"}
