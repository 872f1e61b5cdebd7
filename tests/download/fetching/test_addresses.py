"""Links that may be fetched are normalised, all others are refused."""

import pytest

from services.common.errors import InvalidInputError
from services.download.fetching.addresses import check_link

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
    assert await check_link(url, ("site.test",)) == GOOD[url]


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
        await check_link(url, ())
    assert refused.value.reason == "BAD_URL"
