"""Many requests of one user, Anna, while another user, Ben, sends one, which must have its usual result.

Anna looks up links whose site or name never answers, exports a song many times, and changes a song that both have.
"""

import asyncio
import random
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.common.rpc.auth import bearer
from services.common.rpc.client import final_answer, open_channel
from songs.small_songs import music
from stemtube.download.v1 import import_pb2 as pb
from stemtube.download.v1 import import_pb2_grpc
from tests.common.audio_files import with_soundfile
from tests.download.site import Site
from tests.fuzz.findings import Tally
from tests.fuzz.hanging_names.sitecustomize import HANG_SECONDS
from tests.fuzz.target import Target
from tests.suite.client import Client, Json

CROWD = 20
BUSY = (429, 503)


@dataclass(frozen=True)
class Scene:
    """Two users who have a song of one link, with a stem, and a site.

    Attributes:
        anna: a user.
        ben: another user.
        track: path of their song.
        site: has song.flac; names that begin with "hang" are never answered.
        song: the file.
    """

    anna: Client
    ben: Client
    track: str
    site: Site
    song: Path


class Fuzzer:
    """Sends crowds of requests to a target's gateway.

    Args:
        target: the suite that gets them.
        tally: records the findings.
    """

    def __init__(self, target: Target, tally: Tally) -> None:
        self._target = target
        self._tally = tally
        self._dice = random.Random(0)
        self._outcomes: Counter[str] = Counter()

    def close(self) -> None:
        """Does nothing: connections are closed after each crowd."""

    def run(self, seed: int, count: int, kinds: Sequence[str] = ()) -> Counter[str]:
        """Sends `count` crowds of each kind.

        Args:
            seed: of all choices.
            count: of each kind.
            kinds: of `KINDS`; all of them if none is named.

        Returns:
            The number of answers by kind and status.
        """
        self._outcomes = Counter()
        for kind in kinds or KINDS:
            self._dice = random.Random(f"{seed} {kind}")
            for _ in range(count):
                tokens = [self._target.account().token for _ in range(2)]
                asyncio.run(self._crowd(kind, tokens, self._target.admin_token()))
            self._target.check(self._tally, kind)
        return self._outcomes

    async def hanging_sites(self, scene: Scene) -> None:
        """Anna looks up links of a site that never answers; Ben looks up another one."""
        crowd = self._crowd_of(
            scene.anna, [f"/links?url={scene.site.url}/hang{number}.flac" for number in range(CROWD)], "hanging sites"
        )
        await self._ben("hanging sites", lambda: scene.ben.call("GET", f"/links?url={scene.site.put(scene.song)}"))
        await _end(crowd)

    async def hanging_names(self, scene: Scene) -> None:
        """Anna looks up links whose names are never answered; Ben uploads a file meanwhile."""
        host = f"{uuid.UUID(int=self._dice.getrandbits(128)).hex}.hangs.test"
        crowd = self._crowd_of(
            scene.anna, [f"/links?url=https://{number}.{host}/" for number in range(CROWD)], "hanging names"
        )
        await asyncio.sleep(0.5)
        began = time.monotonic()
        await self._ben("hanging names", lambda: scene.ben.upload(scene.song))
        if time.monotonic() - began > HANG_SECONDS:
            self._tally.note("hangs", "an upload waited for names of another user's links", host.encode())
        await _end(crowd)

    async def exports(self, scene: Scene) -> None:
        """Anna has many mixdowns made; Ben has one made."""
        path = f"{scene.track}/exports/mixdown?stems=vocals:"
        gains = self._dice.sample(range(1, 60), CROWD + 1)
        crowd = self._crowd_of(scene.anna, [f"{path}-{gain}" for gain in gains[1:]], "exports")
        await self._ben("exports", lambda: scene.ben.call("GET", f"{path}-{gains[0]}"))
        await _end(crowd)

    async def two_owners(self, scene: Scene) -> None:
        """Anna edits, deletes and restores the song, and has it processed; Ben's stays as it is."""
        expected = await scene.ben.get(scene.track)
        options = {"analyses": [{"part": "PART_LYRICS", "text": "Anna's words"}, {"part": "PART_KEY"}]}
        changes: list[tuple[str, str, Json]] = [
            ("PATCH", "", {"title": "Anna's", "artist": "Anna", "notes": "hers", "favourite": True}),
            ("PUT", "/edits", {"key": {"tonic": "C", "mode": "MODE_MINOR"}}),
            ("POST", "/process", {"options": options}),
            ("DELETE", "", {}),
            ("POST", "/restore", {}),
        ]

        async def change() -> None:
            for method, below, content in self._dice.choices(changes, k=CROWD):
                status, answer = await scene.anna.call(method, scene.track + below, json=content)
                self._count("two owners", status, answer)

        changing = [asyncio.create_task(change()) for _ in range(2)]
        while not all(task.done() for task in changing):
            self._expect_equal(expected, await scene.ben.get(scene.track))
        await asyncio.gather(*changing)
        self._expect_equal(expected, await scene.ben.get(scene.track))
        if (await scene.ben.get(f"/jobs?trackId={scene.track.rpartition('/')[2]}")).get("jobs"):
            self._tally.note("5xx", "a user sees another user's job", scene.track.encode())

    def _expect_equal(self, expected: Json, seen: Json) -> None:
        if seen != expected:
            self._tally.note("5xx", "a user's song changed by another user", repr(expected).encode(), repr(seen))

    async def _crowd(self, kind: str, tokens: list[str], admin_token: str) -> None:
        async with AsyncExitStack() as stack:
            anna, ben = [await stack.enter_async_context(Client(self._target.suite.url)) for _ in tokens]
            anna.token, ben.token = tokens
            site = Site()
            await site.start()
            stack.push_async_callback(site.stop)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            number = self._dice.randrange(10**6)
            song = with_soundfile(folder / f"song-{number}.flac", music(1, seed=number))
            users = [str((await one.get("/me"))["user"]["id"]) for one in (anna, ben)]
            url = f"https://example.com/{uuid.uuid4().hex}"
            track = await self._imported(users, url, song.read_bytes(), admin_token)
            await KINDS[kind](self, Scene(anna, ben, f"/tracks/{track}", site, song))

    async def _imported(self, users: list[str], url: str, content: bytes, admin_token: str) -> str:
        """Adds a song by a link for all these users, with a stem; returns its id."""
        metadata = bearer(admin_token)
        async with open_channel(f"127.0.0.1:{self._target.suite.ports['download']}") as channel:
            stub: Any = import_pb2_grpc.ImportServiceStub(channel)

            async def track() -> AsyncIterator[pb.ImportTrackRequest]:
                header = pb.ImportTrackHeader(user_ids=users, source_url=url, title="Song")
                yield pb.ImportTrackRequest(header=header)
                yield pb.ImportTrackRequest(chunk=content)

            answer = await final_answer(stub.ImportTrack(track(), metadata=metadata, timeout=60))
            ids = {track.track_id for track in answer.tracks}

            async def stem() -> AsyncIterator[pb.ImportStemRequest]:
                header = pb.ImportStemHeader(track_ids=ids, model="imported", name="vocals")
                yield pb.ImportStemRequest(header=header)
                yield pb.ImportStemRequest(chunk=content)

            await final_answer(stub.ImportStem(stem(), metadata=metadata, timeout=60))
        (only,) = ids
        return str(only)

    def _crowd_of(self, client: Client, paths: list[str], kind: str) -> list[asyncio.Task[None]]:
        async def ask(path: str) -> None:
            status, content, _ = await client.bytes(path)
            self._count(f"Anna's {kind}", status, content)

        return [asyncio.create_task(ask(path)) for path in paths]

    async def _ben(self, kind: str, call: Callable[[], Awaitable[tuple[int, Json]]]) -> None:
        """Ben's request succeeds; a busy machine may ask him to retry a few times."""
        for _ in range(5):
            status, answer = await call()
            if status not in BUSY:
                break
        self._count(f"Ben's {kind}", status, answer)
        if status != 200:
            self._tally.note("hangs", f"{kind}: the other user got {status}", b"", repr(answer))

    def _count(self, what: str, status: int, answer: object) -> None:
        self._tally.inputs += 1
        self._outcomes[f"{what} {status}"] += 1
        if status >= 500 and status not in BUSY:
            self._tally.note("5xx", f"{what}: {status}", b"", repr(answer))


async def _end(crowd: list[asyncio.Task[None]]) -> None:
    for task in crowd:
        task.cancel()
    for ended in await asyncio.gather(*crowd, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended


KINDS: dict[str, Callable[[Fuzzer, Scene], Awaitable[None]]] = {
    "two owners": Fuzzer.two_owners,
    "exports": Fuzzer.exports,
    "hanging sites": Fuzzer.hanging_sites,
    "hanging names": Fuzzer.hanging_names,
}
