"""Users at work: complete and interrupted uploads, links to a site that hangs, uploads up to the quota."""

import asyncio
import base64
import contextlib
import json
import time
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from services.common import audio
from songs.small_songs import music
from tests.chaos.run import BUSY_SECONDS, USERS, Run
from tests.common.audio_files import with_soundfile
from tests.download.site import Site
from tests.suite.client import Client, Json
from tests.suite.running import PASSWORD

OPTIONS: Json = {
    "separations": [{"model": "spleeter_2stems"}],
    "analyses": [{"part": "PART_BEATS", "backend": "librosa"}, {"part": "PART_KEY", "backend": "librosa"}],
}
SMALL_OPTIONS: Json = {"analyses": [{"part": "PART_KEY", "backend": "librosa"}]}
QUOTA_OPTIONS: Json = {**SMALL_OPTIONS, "separations": OPTIONS["separations"]}
SUBMIT_SECONDS = 2.0
CANCELS = 0.15
BREAKS = 3
HANGING_USERS, HANGING_LINKS, HANGING_SECONDS = ("dora", "emil"), 17, 20.0
LINK_USER, MEANWHILE_SECONDS = "fay", BUSY_SECONDS
QUOTA_USER, QUOTA_AT_ONCE, NOISE_SECONDS = "quinn", 4, 20
QUOTA_BYTES = 12_000_000  # three files, or one with its stems
QUOTA_SECONDS = 300.0  # stems without room have been removed by then
REFUSED = (aiohttp.ClientError, OSError, AssertionError, ValueError, KeyError, TimeoutError)
TUS = {"Tus-Resumable": "1.0.0"}


async def submit(run: Run) -> None:
    """Uploads songs whole; some of the jobs are cancelled."""
    dice = run.dice("submit")
    while run.goes_on:
        user, song = dice.choice(USERS), dice.choice(run.songs)
        cancels, wait = dice.random() < CANCELS, dice.uniform(0, 2 * SUBMIT_SECONDS)
        with contextlib.suppress(*REFUSED):  # refused or broken off: not accepted
            async with Client(run.suite.url) as client:
                await client.sign_in(user, PASSWORD)
                status, answer = await client.upload(song, OPTIONS)
                if status == 200:
                    job_id = answer["job"]["job"]["id"]
                    run.accepted.append((user, job_id))
                    if cancels:
                        run.cancelled.add(job_id)
                        await asyncio.sleep(wait)
                        await client.call("POST", f"/jobs/{job_id}/cancel", json={})
        await asyncio.sleep(dice.uniform(0.2, 2 * SUBMIT_SECONDS))


async def break_off(run: Run) -> None:
    """Uploads whose connections die in the middle of a piece; those by tus continue until they are complete."""
    dice = run.dice("uploads")
    while run.goes_on:
        user, song = dice.choice(USERS), dice.choice(run.songs)
        resumes, cuts = dice.random() < 0.6, [dice.uniform(0.05, 0.95) for _ in range(BREAKS)]
        with contextlib.suppress(*REFUSED):
            async with Client(run.suite.url) as client:
                await client.sign_in(user, PASSWORD)
                if resumes:
                    await _resume(run, client, user, song, cuts)
                else:
                    await _cut_form(run, client, song, cuts[0])
        await asyncio.sleep(dice.uniform(0.2, 2 * SUBMIT_SECONDS))


async def _resume(run: Run, client: Client, user: str, song: Path, cuts: list[float]) -> None:
    content = await asyncio.to_thread(song.read_bytes)
    values = {"filename": song.name, "options": json.dumps(OPTIONS)}
    metadata = ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in values.items())
    upload = await client.begin_upload(TUS | {"Upload-Length": str(len(content)), "Upload-Metadata": metadata})
    for cut in cuts:
        offset = await _offset(client, upload)
        left = content[offset:]
        headers = {
            "Upload-Offset": str(offset),
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(len(left)),
        }
        await _send_and_die(run, client, "PATCH", f"/uploads/{upload}", headers, left[: int(len(left) * cut)])
    while True:
        # The last piece is sent until its answer, or the word that it was taken, has come.
        try:
            offset = await _offset(client, upload)
            headers = TUS | {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
            await client.call("PATCH", f"/uploads/{upload}", headers=headers, data=content[offset:])
            kept: Json = (await client.get(f"/uploads/{upload}"))["upload"]
            if kept.get("jobId"):
                run.accepted.append((user, kept["jobId"]))
                return
        except REFUSED as error:
            if isinstance(error, AssertionError) or not run.goes_on:
                raise
        await asyncio.sleep(0.5)


async def _offset(client: Client, upload: str) -> int:
    async with client._session.head(f"/api/v1/uploads/{upload}", headers=client.headers | TUS) as answer:
        answer.raise_for_status()
        return int(answer.headers["Upload-Offset"])


async def _cut_form(run: Run, client: Client, song: Path, cut: float) -> None:
    content = await asyncio.to_thread(song.read_bytes)
    head = f'--cut\r\nContent-Disposition: form-data; name="file"; filename="{song.name}"\r\n\r\n'.encode()
    body = head + content + b"\r\n--cut--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=cut", "Content-Length": str(len(body))}
    await _send_and_die(run, client, "POST", "/tracks/upload", headers, body[: int(len(body) * cut)])


async def _send_and_die(
    run: Run, client: Client, method: str, path: str, headers: dict[str, str], content: bytes
) -> None:
    lines = {"Host": "x", **client.headers, **TUS, **headers}
    head = f"{method} /api/v1{path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    _reader, writer = await asyncio.open_connection("127.0.0.1", run.suite.ports["gateway"])
    writer.write(head.encode() + b"\r\n" + content)
    async with asyncio.timeout(30):
        await writer.drain()
    writer.transport.abort()


async def hang(run: Run) -> None:
    """Two users add many links to a site that never answers, and give up once another user's link has been fetched."""
    dice, number = run.dice("site"), 0
    site = Site()
    await site.start()
    try:
        while run.goes_on:
            number += 1
            added = await asyncio.gather(*(_add_hanging_links(run, user, site, number) for user in HANGING_USERS))
            await _fetch_meanwhile(run, site, number)
            await asyncio.sleep(dice.uniform(HANGING_SECONDS / 2, HANGING_SECONDS))
            await asyncio.gather(*(_cancel(run, user, job_id) for jobs in added for user, job_id in jobs))
    finally:
        await site.stop()


async def _add_hanging_links(run: Run, user: str, site: Site, number: int) -> list[tuple[str, str]]:
    """Adds as many links as a user may; returns the user and the job of each."""
    jobs = []
    for link in range(HANGING_LINKS):
        with contextlib.suppress(*REFUSED):
            async with Client(run.suite.url) as client:
                await client.sign_in(user, PASSWORD)
                body = {"url": f"{site.url}/hang-{user}-{number}-{link}.flac", "options": SMALL_OPTIONS}
                status, answer = await client.call("POST", "/tracks", json=body)
                if status == 200:
                    jobs.append((user, answer["job"]["job"]["id"]))
    return jobs


async def _fetch_meanwhile(run: Run, site: Site, number: int) -> None:
    """Adds another user's link while those of the others hang; records a fault if it is not fetched."""
    path = run.songs[0].parent / f"link{number}.flac"
    await asyncio.to_thread(with_soundfile, path, music(4, seed=10_000 + number))
    body = {"url": site.put(path), "options": SMALL_OPTIONS}
    try:
        async with asyncio.timeout(MEANWHILE_SECONDS):
            job_id = await _added(run, LINK_USER, body)
            run.accepted.append((LINK_USER, job_id))
            await end_of(run, LINK_USER, job_id)
    except TimeoutError:
        run.faults.append(f"{path.name} was not fetched while links of others hung")


async def _added(run: Run, user: str, body: Json) -> str:
    """Adds a link, repeatedly if necessary; returns its job."""
    while True:
        with contextlib.suppress(*REFUSED):
            async with Client(run.suite.url) as client:
                await client.sign_in(user, PASSWORD)
                status, answer = await client.call("POST", "/tracks", json=body)
                if status == 200:
                    return str(answer["job"]["job"]["id"])
        await asyncio.sleep(0.5)


async def end_of(run: Run, user: str, job_id: str) -> tuple[Json, Json]:
    """Waits for the end of a job, even if the suite is away meanwhile; returns the job and its track."""
    while True:
        with contextlib.suppress(*REFUSED):
            async with Client(run.suite.url) as client:
                await client.sign_in(user, PASSWORD)
                job = await client.end_of(job_id)
                _, answer = await client.call("GET", f"/tracks/{job['trackId']}")
                return job, answer.get("track", {})
        await asyncio.sleep(0.5)


async def _cancel(run: Run, user: str, job_id: str) -> None:
    """Cancels a job; repeats the request until the suite accepts it."""
    while True:
        with contextlib.suppress(*REFUSED):
            async with Client(run.suite.url) as client:
                await client.sign_in(user, PASSWORD)
                status, _ = await client.call("POST", f"/jobs/{job_id}/cancel", json={})
                if status < 500:
                    return
        await asyncio.sleep(1)


async def fill_quota(run: Run) -> None:
    """One user uploads files up to the quota and beyond, has stems made, and then makes room again."""
    dice, number = run.dice("quota"), 0
    user_id = await _set_quota(run)
    while run.goes_on:
        paths = []
        for _ in range(dice.choice((1, QUOTA_AT_ONCE))):
            number += 1
            paths.append(await asyncio.to_thread(_noise, run.songs[0].parent, run.seed, number))
        await asyncio.gather(*(_upload_noise(run, path) for path in paths))
        for path in paths:
            path.unlink()
        tracks = await _ended_tracks(run)
        await _check_quota(run, user_id)
        await asyncio.gather(*(_insist(run, "DELETE", f"/tracks/{track}?permanently=true") for track in tracks))
        await asyncio.sleep(dice.uniform(0.5, 3))


async def _check_quota(run: Run, user_id: str) -> None:
    """Records a fault if a user has more bytes in the store than the quota, long after all jobs have ended."""
    until, taken = time.monotonic() + QUOTA_SECONDS, 0
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            taken = await asyncio.to_thread(run.taken_by, user_id)
            if taken <= QUOTA_BYTES:
                return
        await asyncio.sleep(1)
    run.faults.append(f"{QUOTA_USER} has {taken} bytes of {QUOTA_BYTES}")


async def _set_quota(run: Run) -> str:
    """Gives the user a quota; returns the user's id."""
    while True:
        with contextlib.suppress(*REFUSED):
            async with Client(run.suite.url) as admin, Client(run.suite.url) as user:
                await admin.sign_in("admin", PASSWORD)
                await user.sign_in(QUOTA_USER, PASSWORD)
                user_id: str = (await user.get("/me"))["user"]["id"]
                quota = {"quotaBytes": str(QUOTA_BYTES)}
                status, answer = await admin.call("PUT", f"/admin/storage/{user_id}", json=quota)
                assert status == 200, answer
                return user_id
        await asyncio.sleep(1)


def _noise(folder: Path, seed: int, number: int) -> Path:
    dice = np.random.default_rng([seed, number])
    samples = dice.uniform(-0.5, 0.5, (2, NOISE_SECONDS * 44_100)).astype(np.float32)
    path = folder / f"noise-{number}.wav"
    audio.encode(samples, 44_100, path, "wav")
    return path


async def _upload_noise(run: Run, path: Path) -> None:
    with contextlib.suppress(*REFUSED):
        async with Client(run.suite.url) as client:
            await client.sign_in(QUOTA_USER, PASSWORD)
            status, answer = await client.upload(path, QUOTA_OPTIONS)
            if status == 200:
                run.accepted.append((QUOTA_USER, answer["job"]["job"]["id"]))


async def _ended_tracks(run: Run) -> list[str]:
    """Waits for the user's jobs; returns their tracks, unless a job failed other than by the quota."""
    tracks = []
    for entry in [entry for entry in run.accepted if entry[0] == QUOTA_USER]:
        job = await _insist(run, "GET", f"/jobs/{entry[1]}")
        while job["job"]["job"]["state"] in ("JOB_STATE_QUEUED", "JOB_STATE_RUNNING"):
            await asyncio.sleep(1)
            job = await _insist(run, "GET", f"/jobs/{entry[1]}")
        errors = {part["error"]["reason"] for part in job["job"]["parts"] if part.get("error")}
        if errors <= {"QUOTA_EXCEEDED"}:
            run.accepted.remove(entry)
            run.removed += 1
            tracks.append(job["job"]["trackId"])
    return tracks


async def _insist(run: Run, method: str, path: str) -> Any:
    """Repeats a request of the user until the suite answers; returns the answer."""
    while True:
        with contextlib.suppress(*REFUSED):
            async with Client(run.suite.url) as client:
                await client.sign_in(QUOTA_USER, PASSWORD)
                status, answer = await client.call(method, path)
                if status in (200, 404):
                    return answer
        await asyncio.sleep(1)
