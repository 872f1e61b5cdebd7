"""Several children make exports with sound: users do not wait for each other, and the queue is limited."""

import asyncio
import io
import itertools
import signal
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import BinaryIO

import aiohttp
import numpy as np
import pytest
import soundfile
from prometheus_client import REGISTRY

from services.common import audio
from services.common.storage.objects import open_store
from stemtube.download.v1 import media_pb2, track_pb2
from tests.common.held import PATIENCE_SECONDS, children, hold_children, release, send
from tests.gateway.conftest import Client
from tests.gateway.suite import token_of

EXPORTS = "gateway-exports"
PER_USER = 2
# Four whose file has room on the disk, and eight that wait for it.
TAKEN = 12
USERS = ("ann", "bob", "cid", "dan", "eve", "fay", "gus")
RATE = 44_100
PATH = "/api/v1/tracks/t/exports/mixdown?stems=vocals:{:.2f}&encoding=wav"
NUMBERS = itertools.count()


@pytest.fixture
async def client(client: Client) -> Client:
    """The users have a track with a stem of a second."""
    file = io.BytesIO()
    audio.encode(np.full((2, RATE), 0.1, np.float32), RATE, file, "flac")
    await open_store(client.settings).put("stems/m/vocals", file.getvalue())
    for user in USERS:
        track = track_pb2.Track(id="t", title="Song", duration_seconds=1.0)
        track.stems.add(name="vocals", model="m", sample_rate_hz=RATE, gain=1.0, duration_seconds=1.0)
        client.suite.library.tracks[user]["t"] = track
    media = media_pb2.GetMediaResponse(key="stems/m/vocals", content_type="audio/flac", filename="vocals")
    client.suite.library.media["t", "m", "vocals", media_pb2.MEDIA_KIND_AUDIO, ""] = media
    return client


class Mixdown:
    """A request for a mixdown, different from all others unless its gain is given; its status, body and headers."""

    def __init__(self, client: Client, user: str, gain_db: float | None = None) -> None:
        self._client = client
        self._user = user
        gain = -next(NUMBERS) / 100 if gain_db is None else gain_db
        self._path = PATH.format(gain % -60)
        self.answer = asyncio.create_task(self._get())

    async def _get(self) -> tuple[int, bytes, Mapping[str, str]]:
        headers = {"Authorization": f"Bearer {token_of(self._user, 600)}"}
        async with self._client.http.get(self._path, headers=headers) as response:
            return response.status, await response.read(), response.headers

    async def go_away(self) -> None:
        self.answer.cancel()
        await asyncio.wait({self.answer})


async def done(client: Client, user: str) -> None:
    status, content, _ = await Mixdown(client, user).answer
    assert status == 200, content
    samples, rate = soundfile.read(io.BytesIO(content))
    assert (len(samples), rate) == (RATE, RATE)


async def test_forty_mixdowns_of_a_user_do_not_delay_others(client: Client) -> None:
    anns = [Mixdown(client, "ann") for _ in range(40)]
    held = await hold_children(EXPORTS, PER_USER)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await done(client, "bob")
        await done(client, "bob")
        assert len(children(EXPORTS)) == PER_USER + 1
        while sum(mixdown.answer.done() for mixdown in anns) < 40 - TAKEN:
            await asyncio.sleep(0.01)
        release(*held)
        answers = await asyncio.gather(*(mixdown.answer for mixdown in anns))
    assert Counter(status for status, _, _ in answers) == {200: TAKEN, 429: 40 - TAKEN}
    for status, content, headers in answers:
        if status == 429:
            assert int(headers["Retry-After"]) > 0
            assert b"TOO_MANY_WAITING" in content


async def test_clients_that_disconnect_free_their_places_and_turns(client: Client) -> None:
    anns = [Mixdown(client, "ann") for _ in range(TAKEN)]
    await hold_children(EXPORTS, PER_USER)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while held_and_waiting() < TAKEN:
            await asyncio.sleep(0.01)
        for mixdown in anns:
            await mixdown.go_away()
        while held_and_waiting():
            await asyncio.sleep(0.01)
        await asyncio.gather(*(done(client, "ann") for _ in range(TAKEN)))


def held_and_waiting() -> float:
    states = ("taken", "waiting")
    labels = [{"limiter": "export files", "state": state} for state in states]
    return sum(REGISTRY.get_sample_value("stemtube_places", found) or 0.0 for found in labels)


async def test_a_client_that_reads_slowly_holds_up_nobody_else(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files, at most four, stay on the disk meanwhile."""
    monkeypatch.setattr("gateway.exports.rendering.WAIT_SECONDS", 0.2)
    sent: list[BinaryIO] = []
    go_on = asyncio.Event()

    async def slowly(file: BinaryIO) -> AsyncIterator[bytes]:
        sent.append(file)
        await go_on.wait()
        yield file.read()

    monkeypatch.setattr("gateway.exports.routes._pieces", slowly)
    anns = [Mixdown(client, "ann") for _ in range(6)]
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(sent) < 4 or sum(mixdown.answer.done() for mixdown in anns) < 2:
            await asyncio.sleep(0.01)
        bob = Mixdown(client, "bob")
        while len(sent) < 5:
            await asyncio.sleep(0.01)
        go_on.set()
        assert (await bob.answer)[0] == 200
        answers = await asyncio.gather(*(mixdown.answer for mixdown in anns))
    assert Counter(status for status, _, _ in answers) == {200: 4, 429: 2}


async def test_users_without_an_export_do_not_wait_for_slow_clients_of_others(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ann, Bob, Cid, Dan and Eve hold all places. Fay and Gus get one each, and the five keep at least one."""
    monkeypatch.setattr("gateway.exports.routes.GIVE_WAY_SECONDS", 0.05)
    monkeypatch.setattr("gateway.exports.rendering.WAIT_SECONDS", 30)
    slow = ("ann", "bob", "cid", "dan")
    sent: list[BinaryIO] = []
    go_on = asyncio.Event()

    async def slowly(file: BinaryIO) -> AsyncIterator[bytes]:
        sent.append(file)
        if len(sent) <= TAKEN:
            await go_on.wait()
        yield file.read()

    monkeypatch.setattr("gateway.exports.routes._pieces", slowly)
    async with asyncio.timeout(PATIENCE_SECONDS):
        held = [Mixdown(client, user, -3) for _ in range(3) for user in slow]
        while len(sent) < TAKEN - 1:  # the last place is for a user without one
            await asyncio.sleep(0.01)
        held.append(Mixdown(client, "eve", -3))
        while len(sent) < TAKEN:
            await asyncio.sleep(0.01)
        for user in ("fay", "gus"):
            others = [Mixdown(client, user, -3) for _ in range(2)]
            for other in others:
                status, content, _ = await other.answer
                assert status == 200, content
        go_on.set()
        ends = await asyncio.gather(*(mixdown.answer for mixdown in held), return_exceptions=True)
    users = (*slow * 3, "eve")
    kept = Counter(user for user, end in zip(users, ends, strict=True) if isinstance(end, tuple) and end[0] == 200)
    assert set(kept) == {*slow, "eve"}


async def test_an_export_that_waits_to_be_made_gives_way_to_a_user_without_one(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ann, Bob and Cid have eleven files; three are being made. Eve reads hers slowly."""
    monkeypatch.setattr("gateway.exports.rendering.WAIT_SECONDS", 30)
    busy = ("ann", "bob", "cid")
    held = [Mixdown(client, user) for user in busy]
    await hold_children(EXPORTS, len(busy))
    held += [Mixdown(client, user) for _ in range(3) for user in busy]
    reads = asyncio.Event()
    go_on = asyncio.Event()

    async def slowly(file: BinaryIO) -> AsyncIterator[bytes]:
        if not reads.is_set():
            reads.set()
            await go_on.wait()
        yield file.read()

    monkeypatch.setattr("gateway.exports.routes._pieces", slowly)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while held_and_waiting() < TAKEN:
            await asyncio.sleep(0.01)
        eve = Mixdown(client, "eve")
        await reads.wait()
        await done(client, "fay")
        (refused,) = [mixdown for mixdown in held if mixdown.answer.done()]
        status, content, headers = await refused.answer
        assert (status, bool(headers["Retry-After"])) == (429, True)
        assert b"Other users wait" in content
        go_on.set()
        assert (await eve.answer)[0] == 200
        for mixdown in held:
            await mixdown.go_away()


@pytest.mark.parametrize("limits", [{"SLOW_SECONDS": 0.5, "LEAST_BYTES_PER_SECOND": 10**9}, {"MOST_SECONDS": 0.5}])
async def test_a_client_that_reads_too_slowly_is_disconnected(
    client: Client, monkeypatch: pytest.MonkeyPatch, limits: dict[str, float]
) -> None:
    for name, limit in limits.items():
        monkeypatch.setattr(f"gateway.exports.routes.{name}", limit)
    file = io.BytesIO()
    audio.encode(np.full((2, 200 * RATE), 0.1, np.float32), RATE, file, "flac")
    await open_store(client.settings).put("stems/m/vocals", file.getvalue())
    async with asyncio.timeout(PATIENCE_SECONDS), client.http.get(PATH.format(-3)) as response:
        assert response.status == 200  # 35 MB, more than buffers hold
        while held_and_waiting():
            await asyncio.sleep(0.05)
        with pytest.raises(aiohttp.ClientError):
            await response.read()


async def test_a_killed_child_costs_one_export(client: Client) -> None:
    anns = [Mixdown(client, "ann") for _ in range(4)]
    held = await hold_children(EXPORTS, PER_USER)
    send(held[0], signal.SIGKILL)
    release(held[1])
    async with asyncio.timeout(PATIENCE_SECONDS):
        answers = await asyncio.gather(*(mixdown.answer for mixdown in anns))
    assert Counter(status for status, _, _ in answers) == {200: 3, 409: 1}


async def test_a_request_that_waits_too_long_gets_a_retry_time(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.exports.rendering.WAIT_SECONDS", 0.2)
    anns = [Mixdown(client, "ann") for _ in range(5)]
    held = await hold_children(EXPORTS, PER_USER)
    async with asyncio.timeout(PATIENCE_SECONDS):
        (late,), _ = await asyncio.wait([m.answer for m in anns], return_when=asyncio.FIRST_COMPLETED)
        status, _, headers = late.result()
        assert (status, bool(headers["Retry-After"])) == (429, True)
        release(*held)
        ends = await asyncio.gather(*(mixdown.answer for mixdown in anns))
    assert Counter(status for status, _, _ in ends) == {200: 4, 429: 1}


async def test_a_user_with_many_tokens_is_one_user(client: Client) -> None:
    """`token_of` signs a different token each time."""
    tokens = {token_of("ann", 600 + number) for number in range(4)}
    assert len(tokens) == 4
    tasks = [
        asyncio.create_task(client.http.get(PATH.format(-number), headers={"Authorization": f"Bearer {token}"}))
        for number, token in enumerate(tokens)
    ]
    held = await hold_children(EXPORTS, PER_USER)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await done(client, "bob")
        await done(client, "eve")
        assert not any(task.done() for task in tasks)
        release(*held)
        for response in await asyncio.gather(*tasks):
            assert response.status == 200
            response.release()


async def test_equal_exports_are_made_once_and_the_first_client_may_go_away(client: Client) -> None:
    first = Mixdown(client, "ann", gain_db=-3)
    held = await hold_children(EXPORTS, 1)
    others = [Mixdown(client, user, gain_db=-3) for user in ("ann", "ann", "bob", "eve")]
    async with asyncio.timeout(PATIENCE_SECONDS):
        while held_and_waiting() < 5:
            await asyncio.sleep(0.01)
        await first.go_away()
        while held_and_waiting() == 5:
            await asyncio.sleep(0.01)
        release(*held)
        answers = await asyncio.gather(*(mixdown.answer for mixdown in others))
    assert [status for status, _, _ in answers] == [200] * 4
    assert len({content for _, content, _ in answers}) == 1
    assert children(EXPORTS) == held
