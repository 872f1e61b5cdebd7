"""The operator's cookies: who uses them, where they are sent, and who gets the results. The site requires a cookie."""

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from services.common.errors import StemTubeError
from services.common.rpc.auth import Identity, set_caller
from services.download.config import DownloadSection, DownloadSettings
from services.download.fetching.cookies import CookieRules, copy_cookies, is_of
from services.download.servicers import Servicers
from songs.small_songs import music
from stemtube.analysis.v1 import analysis_pb2
from stemtube.download.v1 import link_pb2, track_job_pb2, track_pb2
from tests.common.audio_files import with_soundfile
from tests.download.conftest import RunningLibrary
from tests.download.pipeline.test_known_beats import Analysis
from tests.download.rpcs import running_servicers
from tests.download.site import Site

COOKIES = """# Netscape HTTP Cookie File
127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\toperator
#HttpOnly_localhost\tFALSE\t/\tFALSE\t0\tsession\toperator
.example.org\tTRUE\t/\tTRUE\t0\tother\tsecret
"""
ADMIN, USER = (Identity(name, name, "user", admin=name == "admin") for name in ("admin", "anna"))
KEY = track_job_pb2.ProcessingOptions(analyses=[track_job_pb2.AnalysisChoice(part=analysis_pb2.PART_KEY)])
FOR_ADMINS = {"cookies_fetches": "admins", "cookies_lookups": "admins"}


@pytest.fixture
def section(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    file = tmp_path / "cookies.txt"
    file.write_text(COOKIES)
    return {"cookies_file": file, "cookies_hosts": ["127.0.0.1"]} | getattr(request, "param", {})


class Rpcs:
    """The library's RPCs, as a user or an admin calls them."""

    def __init__(self, servicers: Servicers, library: RunningLibrary) -> None:
        self._servicers = servicers
        self._library = library

    async def create(self, caller: Identity, url: str) -> tuple[str, str]:
        """Adds a link. Returns its track id, and "fetched" or the reason of the error."""
        set_caller(caller)
        made = await self._servicers.tracks.CreateTrack(track_pb2.CreateTrackRequest(url=url, options=KEY), None)
        record = await self._library.end_of(made.job.job.id)
        data = await self._library.tracks.track(made.track.id)
        reason = record.error["reason"] if record.error else ""
        return made.track.id, "fetched" if data and data.track.audio_key else reason

    async def look_up(self, caller: Identity, url: str) -> str:
        set_caller(caller)
        try:
            without_deadline = SimpleNamespace(time_remaining=lambda: None)
            return (
                await self._servicers.links.LookUpLink(link_pb2.LookUpLinkRequest(url=url), without_deadline)
            ).song.title
        except StemTubeError as error:
            return error.reason


@pytest.fixture
async def rpcs(library: RunningLibrary, settings: DownloadSettings) -> AsyncIterator[Rpcs]:
    library.use(Analysis())
    async with running_servicers(library, settings) as servicers:
        yield Rpcs(servicers, library)


@pytest.fixture
def private(site: Site, tmp_path: Path) -> str:
    return site.put(with_soundfile(tmp_path / "private.flac", music(2, seed=7)))


def sent(site: Site) -> list[dict[str, str]]:
    return [cookies for _, cookies in site.cookies if cookies]


async def test_cookies_are_not_used_without_a_setting(rpcs: Rpcs, site: Site, private: str) -> None:
    for caller in (ADMIN, USER):
        assert (await rpcs.create(caller, private))[1] == "FETCH_FAILED"
        assert await rpcs.look_up(caller, private) == "FETCH_FAILED"
    assert not sent(site)


@pytest.mark.parametrize("section", [FOR_ADMINS], indirect=True)
async def test_results_with_cookies_belong_to_the_admin_alone(rpcs: Rpcs, site: Site, private: str) -> None:
    assert await rpcs.look_up(ADMIN, private) == "private"
    track, state = await rpcs.create(ADMIN, private)
    assert state == "fetched"
    assert sent(site)
    assert (await rpcs.create(ADMIN, private))[0] == track
    # The admin's answer and track exist now, but users do not get them.
    site.cookies.clear()
    assert await rpcs.look_up(USER, private) == "FETCH_FAILED"
    other, state = await rpcs.create(USER, private)
    assert other != track
    assert state == "FETCH_FAILED"
    assert not sent(site)


@pytest.mark.parametrize("section", [{"cookies_fetches": "everybody"}], indirect=True)
async def test_users_who_fetch_with_cookies_have_their_own_tracks(rpcs: Rpcs, site: Site, private: str) -> None:
    tracks = [await rpcs.create(caller, private) for caller in (ADMIN, USER)]
    assert [state for _, state in tracks] == ["fetched", "fetched"]
    assert tracks[0][0] != tracks[1][0]
    site.cookies.clear()
    assert await rpcs.look_up(ADMIN, private) == "FETCH_FAILED"
    assert not sent(site)


@pytest.mark.parametrize("section", [FOR_ADMINS], indirect=True)
async def test_cookies_are_sent_to_no_other_host(rpcs: Rpcs, site: Site, private: str) -> None:
    elsewhere = private.replace("127.0.0.1", "localhost")
    assert (await rpcs.create(ADMIN, elsewhere))[1] == "FETCH_FAILED"
    site.redirects["moved.flac"] = elsewhere
    assert (await rpcs.create(ADMIN, f"{site.url}/moved.flac"))[1] == "FETCH_FAILED"
    assert {host for host, cookies in site.cookies if cookies} <= {"127.0.0.1"}


def test_only_the_cookies_of_named_hosts_are_copied(tmp_path: Path) -> None:
    source, copy = tmp_path / "all", tmp_path / "some"
    source.write_text(COOKIES)
    copy_cookies(source, ("localhost", "example.org"), copy)
    assert [line.split("\t")[0] for line in copy.read_text().splitlines()[1:]] == [
        "#HttpOnly_localhost",
        ".example.org",
    ]
    assert copy.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("host", "is_one"),
    [
        ("youtube.com", True),
        ("www.YouTube.com.", True),
        ("notyoutube.com", False),
        ("youtube.com.evil.org", False),
        ("com", False),
        ("", False),
    ],
)
def test_subdomains_of_a_named_host_count(host: str, is_one: bool) -> None:
    assert is_of(host, (".youtube.com",)) == is_one


@pytest.mark.parametrize("use", ["fetches", "lookups"])
@pytest.mark.parametrize(
    ("users", "served"), [("nobody", set()), ("admins", {"admin"}), ("everybody", {"admin", "anna"})]
)
def test_a_setting_says_who_uses_the_cookies(use: Any, users: str, served: set[str], tmp_path: Path) -> None:
    common: Any = {"cookies_hosts": ("youtube.com",), f"cookies_{use}": users}
    rules = CookieRules(DownloadSection(cookies_file=tmp_path / "cookies.txt", **common))
    assert {caller.subject for caller in (ADMIN, USER) if rules.serve(caller, use)} == served
    assert not rules.serve(ADMIN, use, "https://example.org/")
    assert not CookieRules(DownloadSection(**common)).serve(ADMIN, use)
