"""The client with the real gateway and small services behind it."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cli.api import Api, ApiError
from cli.commands.export import export
from cli.local.suite import free_ports
from gateway.app import RunningGateway, start
from gateway.config import MIB, GatewaySection, GatewaySettings
from services.common.config import AddressSettings, LimitSettings
from services.common.errors import InvalidInputError
from stemtube.download.v1 import track_pb2
from tests.gateway import suite as small
from tests.gateway.suite import PASSWORD, Suite, running_suite, until


@pytest.fixture
async def suite() -> AsyncIterator[Suite]:
    async with running_suite() as suite:
        yield suite


def settings_of(suite: Suite, tmp_path: Path, max_bytes: int = 3_000_000, **gateway: Any) -> GatewaySettings:
    return GatewaySettings(
        data_dir=tmp_path / "data",
        address=AddressSettings(auth=suite.address("auth"), download=suite.address("download")),
        limit=LimitSettings(max_bytes=max_bytes),
        gateway=GatewaySection(**{"listen": "127.0.0.1:0", "health_listen": None, "shutdown_seconds": 0.5} | gateway),
    )


@pytest.fixture
async def gateway(suite: Suite, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    running = await start(settings_of(suite, tmp_path, max_bytes=3 * MIB))
    yield running
    await running.stop()


@pytest.fixture
async def api(gateway: RunningGateway) -> AsyncIterator[Api]:
    async with Api(f"http://127.0.0.1:{gateway.port}") as api:
        await api.sign_in("ann", PASSWORD)
        yield api


@pytest.fixture
def songs(suite: Suite) -> dict[str, track_pb2.Track]:
    """Ann has two songs with lyrics."""
    tracks = suite.library.tracks["ann"]
    for digit, title in (("a", "One"), ("b", "Two/3")):
        track = track_pb2.Track(id=digit * 32, title=title)
        track.lyrics.lines.add(start=1.0, end=2.0, text="La")
        tracks[track.id] = track
    return tracks


async def test_an_export_is_saved_under_its_own_name(api: Api, songs: dict[str, Any], tmp_path: Path) -> None:
    saved = await export(api, "b" * 32, "lrc", ["words=1"], tmp_path / "new" / "folder")
    assert saved == tmp_path / "new" / "folder" / "Two_3.lrc"
    assert "[00:01.00]La" in saved.read_text()
    assert [path.name for path in saved.parent.iterdir()] == ["Two_3.lrc"]


async def test_a_song_is_exported_by_its_title(api: Api, songs: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ApiError, match=r"which one is 'x'\? One \(a+\); Two/3 \(b+\)"):
        await export(api, "x", "srt", [], tmp_path)
    del songs["b" * 32]
    assert (await export(api, "One", "srt", [], tmp_path)).name == "One.srt"
    songs.clear()
    with pytest.raises(ApiError, match="no track 'One'"):
        await export(api, "One", "srt", [], tmp_path)


@pytest.mark.parametrize(
    ("file_format", "options", "message"),
    [
        ("../audio", [], "no such format"),
        ("lrc", ["words"], "'words' is not NAME=VALUE"),
        ("lrc", ["words=2"], "words is 0 or 1"),
        ("midi", [], "neither beats nor chords"),
    ],
)
async def test_exports_that_are_refused(
    api: Api, songs: dict[str, Any], tmp_path: Path, file_format: str, options: list[str], message: str
) -> None:
    with pytest.raises(ApiError, match=message):
        await export(api, "a" * 32, file_format, options, tmp_path / "out")
    assert not await asyncio.to_thread((tmp_path / "out").exists)


async def test_an_upload_arrives_whole_with_its_name_and_options(api: Api, suite: Suite, tmp_path: Path) -> None:
    song = tmp_path / "Ночь & day #1.mp3"
    content = b"not even music" * 50_000
    song.write_bytes(content)
    fractions: list[float] = []
    added = await api.upload(song, fractions.append, {"separations": [{"model": "htdemucs"}]})
    seen = suite.library.uploads[0]
    assert (seen.size, seen.digest.digest()) == (len(content), hashlib.sha256(content).digest())
    assert seen.header.filename == song.name
    assert seen.header.options.separations[0].model == "htdemucs"
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert added["job"]["job"]["state"] == "JOB_STATE_QUEUED"


async def test_a_file_that_is_too_large_is_refused_before_it_is_sent(api: Api, tmp_path: Path) -> None:
    song = tmp_path / "symphony.wav"
    with song.open("wb") as file:
        file.truncate(30_000_000)
    fractions: list[float] = []
    with pytest.raises(ApiError, match="larger than 3 MiB"):
        await api.upload(song, fractions.append)
    assert not fractions


async def test_a_refusal_in_the_middle_of_an_upload_is_reported(api: Api, suite: Suite, tmp_path: Path) -> None:
    suite.library.refuse_upload_at = 300_000
    song = tmp_path / "song.wav"
    song.write_bytes(bytes(2_900_000))
    with pytest.raises(ApiError, match=r"That is too much\."):
        await api.upload(song, lambda _: None)


async def test_a_services_error_message_is_shown(api: Api, suite: Suite) -> None:
    suite.library.error = InvalidInputError("This is not an http(s) address.", "BAD_URL")
    with pytest.raises(ApiError, match=r"^This is not an http\(s\) address\.$"):
        await api.add_link("http://example.org/song")


async def test_wrong_password(gateway: RunningGateway) -> None:
    async with Api(f"http://127.0.0.1:{gateway.port}") as api:
        with pytest.raises(ApiError, match="wrong password"):
            await api.sign_in("ann", "guess")


async def test_an_expired_token_is_renewed_silently(api: Api, suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "_token", small.token_of("ann", lifetime=-60))
    added = await api.add_link("https://example.org/song")
    assert added["job"]["job"]["id"] in suite.library.jobs


async def test_no_credentials_are_left_behind(gateway: RunningGateway, suite: Suite) -> None:
    async with Api(f"http://127.0.0.1:{gateway.port}") as api:
        await api.sign_in("ann", PASSWORD)
        assert suite.auth.refresh_tokens
    assert not suite.auth.refresh_tokens


async def follow(api: Api, job_id: str, states: list[float]) -> None:
    async for job in api.follow(job_id):
        states.append(job["job"]["progress"])  # noqa: PERF401 - read while it grows


async def test_a_job_is_followed_to_its_end_across_restarts_of_the_gateway(suite: Suite, tmp_path: Path) -> None:
    port = free_ports(1)[0]
    settings = settings_of(suite, tmp_path, listen=f"127.0.0.1:{port}")
    gateway = await start(settings)
    async with Api(f"http://127.0.0.1:{port}") as api:
        await api.sign_in("ann", PASSWORD)
        job_id = (await api.add_link("https://example.org/song"))["job"]["job"]["id"]
        states: list[float] = []
        following = asyncio.create_task(follow(api, job_id, states))
        await until(lambda: states == [0.0])
        await suite.library.set_progress(job_id, 0.5)
        await until(lambda: 0.5 in states)
        await gateway.stop()
        await asyncio.sleep(1.0)
        gateway = await start(settings)
        await until(lambda: suite.library.watchers == 1)
        await suite.library.set_progress(job_id, 1.0)
        await asyncio.wait_for(following, 5)
    await gateway.stop()
    assert states[0] == 0.0
    assert states[-1] == 1.0


async def test_a_long_silent_job_is_followed_across_a_restart(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.api.PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr("cli.api.RECONNECT_SECONDS", 0.1)
    settings = settings_of(suite, tmp_path, listen=f"127.0.0.1:{free_ports(1)[0]}")
    gateway = await start(settings)
    async with Api(f"http://{settings.gateway.listen}") as api:
        await api.sign_in("ann", PASSWORD)
        job_id = (await api.add_link("https://example.org/song"))["job"]["job"]["id"]
        states: list[float] = []
        following = asyncio.create_task(follow(api, job_id, states))
        await until(lambda: states == [0.0])
        await asyncio.sleep(1.2)
        await gateway.stop()
        gateway = await start(settings)
        await until(lambda: suite.library.watchers == 1)
        await suite.library.set_progress(job_id, 1.0)
        await asyncio.wait_for(following, 5)
    await gateway.stop()
    assert states[-1] == 1.0


async def test_an_unknown_job_cannot_be_followed(api: Api) -> None:
    with pytest.raises(ApiError, match="no such job"):
        await follow(api, "00000000-0000-0000-0000-000000000000", [])


async def test_nobody_answers() -> None:
    async with Api(f"http://127.0.0.1:{free_ports(1)[0]}") as api:
        with pytest.raises(ApiError, match=r"no StemTube answers at .*start it with `stemtube up`"):
            await api.sign_in("ann", PASSWORD)


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://127.0.0.1", "http://"])
def test_invalid_addresses(url: str) -> None:
    with pytest.raises(ApiError, match="is not the address of a gateway"):
        Api(url)


async def test_a_stem_is_saved_whole_or_not_at_all(api: Api, tmp_path: Path) -> None:
    target = tmp_path / "vocals.flac"
    with pytest.raises(ApiError, match="no such track"):
        await api.download("/api/v1/tracks/none/stems/htdemucs/vocals", target)
    assert not target.exists()
    assert not target.with_name("vocals.flac.part").exists()
