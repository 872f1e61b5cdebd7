"""How often the bytes of a file are written and read, for uploads in one request, uploads in pieces, and links."""

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp.test_utils import TestServer

from services.common.config import StorageSettings
from services.common.errors import LimitExceededError
from services.common.storage import objects as objects_module
from services.common.storage import spool
from services.common.storage.objects import ObjectStore
from services.download.config import DownloadSettings
from services.download.tables import Upload
from services.download.uploads import drafts as drafts_module
from services.download.uploads.drafts import Drafts
from services.download.uploads.uploads import PUTS_AT_ONCE, Uploads
from tests.common.audio_files import with_soundfile
from tests.common.s3_server import S3Server
from tests.common.storage.test_objects import s3_store
from tests.common.storage.test_spool import linkable
from tests.download.conftest import RunningLibrary
from tests.download.site import Site

SECONDS = 100
PIECE_BYTES, CHUNK_BYTES = 4 * 1024 * 1024, 256 * 1024
KIB = 1024


@pytest.fixture
def song(tmp_path: Path) -> Path:
    """17 MB: more than two parts."""
    noise = np.random.default_rng(3).normal(0, 0.1, (2, SECONDS * 44_100)).astype(np.float32)
    return with_soundfile(tmp_path / "song.wav", noise)


@pytest.fixture
def content(song: Path) -> bytes:
    return song.read_bytes()


async def chunks_of(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), CHUNK_BYTES):
        yield content[start : start + CHUNK_BYTES]


async def any_size(_size: int) -> None:
    """Stands for a quota without a limit."""


async def send_in_one_request(library: RunningLibrary, path: Path, content: bytes) -> None:
    await library.acquirer.upload("anna", path.name, chunks_of(content), any_size)


async def send_in_pieces(library: RunningLibrary, path: Path, content: bytes) -> None:
    async def finish(upload: Upload, pieces: AsyncIterator[bytes]) -> tuple[str, str]:
        track, _new = await library.acquirer.upload("anna", upload.filename, pieces, any_size, stored=True)
        return track.id, "job"

    database, reservations = library.tracks.database, library.usage.reservations
    uploads = Uploads(database, library.objects, timedelta(days=1), reservations)
    upload = await uploads.create("anna", path.name, len(content), None, "")
    for start in range(0, len(content), PIECE_BYTES):
        await uploads.append("anna", upload.id, start, chunks_of(content[start : start + PIECE_BYTES]), finish)


async def fetch(library: RunningLibrary, path: Path, _content: bytes) -> None:
    site = Site()
    await site.start()
    try:
        _track, job = await library.add_link("anna", site.put(path))
        assert (await library.end_of(job)).state == "succeeded"
    finally:
        await site.stop()


WAYS = {"one request": send_in_one_request, "pieces": send_in_pieces, "link": fetch}


def written_bytes() -> int:
    """Bytes that this process and its ended children have written. Bytes sent to sockets do not count."""
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        pytest.skip("the system does not count what is written")
    return int(dict(line.split(": ") for line in lines)["wchar"])


@pytest.mark.parametrize(("way", "times"), [("one request", 1), ("pieces", 2), ("link", 2)])
async def test_a_directory_stores_the_bytes_once_and_pieces_in_addition(
    library: RunningLibrary, song: Path, content: bytes, tmp_path: Path, way: str, times: int
) -> None:
    if way == "one request" and not linkable(tmp_path):
        times = 2  # first to a temporary file
    before = written_bytes()
    await WAYS[way](library, song, content)
    assert (written_bytes() - before) / len(content) == pytest.approx(times, abs=0.2)
    [original] = [key for key in await library.keys() if key.startswith("originals/")]
    assert await library.objects.get(original) == content


class TestBucket:
    @pytest.fixture
    async def server(self) -> AsyncIterator[S3Server]:
        self.s3 = S3Server()
        async with TestServer(self.s3.app()) as http:
            self.endpoint = f"http://127.0.0.1:{http.port}"
            yield self.s3

    @pytest.fixture
    def settings(self, settings: DownloadSettings, server: S3Server) -> DownloadSettings:
        keys: dict[str, Any] = {"access_key": "id", "secret_key": "secret"}
        storage = StorageSettings(url="s3://bucket/prefix", endpoint=self.endpoint, region="us-east-1", **keys)
        return settings.model_copy(update={"storage": storage})

    @pytest.mark.parametrize(("way", "put", "got"), [("one request", 1, 1), ("pieces", 2, 2), ("link", 1, 0)])
    async def test_a_bucket_receives_the_bytes_once_and_pieces_in_addition(
        self, library: RunningLibrary, server: S3Server, song: Path, content: bytes, way: str, put: int, got: int
    ) -> None:
        await WAYS[way](library, song, content)
        size = len(content)
        assert server.received_bytes / size == pytest.approx(put, abs=0.2)
        # Its ends, where tags of other formats may be, are read apart, in pieces of 1 MiB.
        assert got - 0.2 < server.sent_bytes / size < got + 0.35
        assert not server.uploads
        [original] = [key for key in await library.keys() if key.startswith("originals/")]
        assert await library.objects.get(original) == content


async def test_concurrent_clients_take_the_memory_of_a_few_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (objects_module, drafts_module):
        monkeypatch.setattr(module, "PART_BYTES", 64 * KIB)
    monkeypatch.setattr(spool, "BUFFER_BYTES", 8 * KIB)
    content = np.random.default_rng(1).bytes(300 * KIB + 5)

    async def sent(chunk: int) -> AsyncIterator[bytes]:
        for start in range(0, len(content), chunk):
            await asyncio.sleep(0)
            yield content[start : start + chunk]

    async with s3_store() as (store, server):
        server.slow_seconds = 0.02
        drafts = Drafts(store, 1_000_000)
        chunks = (7 * KIB, 32 * KIB, 64 * KIB, 64 * KIB + 1, 100 * KIB, 400 * KIB, 3 * KIB)
        await asyncio.gather(
            *(drafts.put(f"uploads/{number}", sent(chunk), stored=False) for number, chunk in enumerate(chunks))
        )
        assert server.most_at_once == PUTS_AT_ONCE
        assert set(server.objects.values()) == {content}
        assert len(server.objects) == len(chunks)
        assert not server.uploads


@pytest.mark.parametrize("place", ["directory", "s3"])
async def test_a_file_refused_while_it_arrives_leaves_nothing(place: str, tmp_path: Path) -> None:
    async def refused(store: ObjectStore) -> None:
        with pytest.raises(LimitExceededError):
            await Drafts(store, 10_000_000).put("uploads/x", chunks_of(bytes(12_000_000)), stored=False)
        assert [info.key async for info in store.list()] == []

    if place == "directory":
        await refused(ObjectStore.from_url(str(tmp_path)))
        assert not os.listdir(tmp_path)
    else:
        async with s3_store() as (store, server):
            await refused(store)
            assert not server.uploads
