"""Links that may be fetched are normalised, all others are refused."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.common.errors import InvalidInputError
from services.download.fetching import addresses
from services.download.fetching.addresses import NAMES_PER_USER, LinkChecker
from tests.download.conftest import RunningLibrary
from tests.download.site import Site

GOOD = {
    " HTTP://Example.org ": "http://example.org/",
    "https://example.org:443/a%20song.mp3?x=1#t=3": "https://example.org/a%20song.mp3?x=1",
    "https://bücher.example/lied": "https://bücher.example/lied",
    "http://site.test:8000/song.mp3": "http://site.test:8000/song.mp3",
    "http://[2606:4700::1111]/x": "http://[2606:4700::1111]/x",
    "https://under_score.example/x": "https://under_score.example/x",
    "https://youtu.be/dQw4w9WgXcQ?si=abc": "https://www.youtube.com/watch?v=dQw4w9WgXcQ",
    "https://m.youtube.com/watch?list=PL1&v=dQw4w9WgXcQ&t=3": "https://www.youtube.com/watch?v=dQw4w9WgXcQ",
    "https://music.youtube.com/watch?v=dQw4w9WgXcQ": "https://www.youtube.com/watch?v=dQw4w9WgXcQ",
    "http://youtube.com/shorts/dQw4w9WgXcQ": "https://www.youtube.com/watch?v=dQw4w9WgXcQ",
    "https://www.youtube.com/playlist?list=PL1": "https://www.youtube.com/playlist?list=PL1",
}


@pytest.mark.parametrize("url", GOOD)
async def test_a_link_is_normalised(url: str) -> None:
    assert await LinkChecker(("site.test",)).checked("anna", url) == GOOD[url]


BAD = [
    "http://[oops/x",
    "http://[::1",
    "http://[oops]/x",
    "http://℀.example/",
    "http://a..b/",
    "http://.a/",
    f"http://{'a' * 64}.example/",
    f"http://{'a.' * 130}example/",
    "http://ex ample.org/",
    "http://ex\0ample.org/",
    "http://example.org\0/",
    "http://example.org/a\0b",
    "http://exam\\ple.org/",
    "http://exa%6dple.org/",
    "http://example.org:99999/",
    "http://example.org:x/",
    "http://",
    "http:///x",
    "http://example.org/" + "x" * 2000,
    "http://[::1]/",
    "http://[fe80::1%25eth0]/",
    "http://[::ffff:127.0.0.1]/",
    "http://0x7f000001/",
    "http://localhost./",
    "http://224.0.0.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://[64:ff9b::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[fd00:ec2::254]/",
    "file:///etc/passwd",
    "ftp://example.org/x",
    "ytsearch:song",
    "-exec=id",
    "http://\ud800.example/",
    "http://example.org/\ud800",
    "",
]


@pytest.mark.parametrize("url", BAD, ids=lambda url: ascii(url[:30]))
async def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        await LinkChecker(()).checked("anna", url)
    assert refused.value.reason == "BAD_URL"


class Names:
    """Answers for names: those below hangs.test wait until `answer` is set."""

    def __init__(self) -> None:
        self.hanging = 0
        self.answer = threading.Event()
        self._look_up = socket.getaddrinfo

    def look_up(self, host: Any, *arguments: Any, **options: Any) -> Any:
        if str(host).endswith(".hangs.test"):
            self.hanging += 1
            self.answer.wait()
            self.hanging -= 1
        address = "127.0.0.1" if host == "private.test" else "1.1.1.1"
        return self._look_up(address if str(host).endswith(".test") else host, *arguments, **options)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    names = Names()
    monkeypatch.setattr(socket, "getaddrinfo", names.look_up)
    yield names
    names.answer.set()


async def test_hanging_look_ups_of_names_do_not_delay_other_users(
    library: RunningLibrary, site: Site, song: Path, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They once occupied all threads of the process, so that every upload and link waited."""
    monkeypatch.setattr(addresses, "NAME_SECONDS", 60.0)
    checker = LinkChecker(("127.0.0.1",))
    annas = [asyncio.create_task(checker.checked("anna", f"https://{number}.hangs.test/")) for number in range(40)]
    async with asyncio.timeout(50):
        while names.hanging < NAMES_PER_USER:
            await asyncio.sleep(0.01)
        with pytest.raises(InvalidInputError):
            await checker.checked("ben", "https://private.test/")
        assert await checker.checked("ben", "https://public.test/") == "https://public.test/"
        assert (await library.upload("ben", song)).duration_seconds
        _, job_id = await library.add_link("ben", await checker.checked("ben", site.put(song)))
        assert (await library.end_of(job_id)).state == "succeeded"
        assert names.hanging == NAMES_PER_USER
        assert not any(task.done() for task in annas)
        names.answer.set()
        assert len(await asyncio.gather(*annas)) == 40


async def test_a_link_is_accepted_if_the_look_up_of_its_name_hangs(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fetch then reports the error. The thread of the look-up counts for its user until it ends."""
    monkeypatch.setattr(addresses, "NAME_SECONDS", 0.1)
    checker = LinkChecker(())
    urls = [f"https://{number}.hangs.test/" for number in range(3 * NAMES_PER_USER)]
    async with asyncio.timeout(30):
        for url in urls:
            assert await checker.checked("anna", url) == url
        assert names.hanging == NAMES_PER_USER
        names.answer.set()
        while names.hanging:
            await asyncio.sleep(0.01)
        with pytest.raises(InvalidInputError):
            await checker.checked("anna", "https://private.test/")
