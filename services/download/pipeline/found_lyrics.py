"""Looks up lyrics by title and artist on a site with LRCLIB's API (https://lrclib.net/docs).

They may belong to another song: the analysis compares them with the singing.
"""

import asyncio
import importlib.metadata
import json
import re
from collections.abc import Iterator
from typing import Any

import aiohttp
import structlog

from services.common.limits import MAX_LYRICS_TEXT

log = structlog.get_logger(__name__)

TIMEOUT_SECONDS = 15.0
MAX_ANSWER_BYTES = 4_000_000
# Different recordings of a song differ by more than this, files of one recording by less.
SAME_SECONDS = 5.0
# Additions to a song's name in titles of videos: "(Official Video)", "[HD]", "| Lyrics".
_BESIDE = re.compile(
    r"[(\[|][^()\[\]|]*\b(?:official|video|audio|lyrics?|visuali[sz]er|hd|hq|4k|remaster(?:ed)?|karaoke)\b[^()\[\]|]*[)\]]?",
    re.IGNORECASE,
)
_LINE_TIME = re.compile(r"^\s*(?:\[[0-9:.]+\]\s*)+", re.MULTILINE)
_WORD_TIME = re.compile(r"<[0-9:.]+>\s*")


class FoundLyrics:
    """Looks up lyrics on one site.

    Args:
        url: the site's base URL, such as `https://lrclib.net`; empty for no look-ups.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        # LRCLIB asks its clients to name themselves.
        self._agent = f"StemTube/{importlib.metadata.version('stemtube')}"

    async def find(self, title: str, artist: str, seconds: float) -> str:
        """Returns the words of a song, line by line; empty if none are known, or the site does not answer.

        Args:
            title: title of the song or of its video.
            artist: the artist, or the channel that published the video; may be empty.
            seconds: duration of the song, which identifies the recording.
        """
        if not self._url:
            return ""
        try:
            timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
            async with aiohttp.ClientSession(
                timeout=timeout, headers={"User-Agent": self._agent}, trust_env=True
            ) as session:
                for question in _questions(title, artist):
                    if text := _best(await self._ask(session, question), seconds):
                        return text
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            log.warning("lyrics cannot be looked up", site=self._url, error=str(error) or type(error).__name__)
        return ""

    async def _ask(self, session: aiohttp.ClientSession, question: dict[str, str]) -> Any:
        async with session.get(f"{self._url}/api/search", params=question, allow_redirects=False) as response:
            if response.status != 200:
                raise ValueError(f"the answer is HTTP {response.status}")
            body = b""
            async for piece in response.content.iter_any():
                body += piece
                if len(body) > MAX_ANSWER_BYTES:
                    raise ValueError("the answer is too long")
            return await asyncio.to_thread(json.loads, body)


def _questions(title: str, artist: str) -> Iterator[dict[str, str]]:
    """Yields queries, the most reliable first.

    A video's title often contains the artist's name, while its `artist` is the channel that published it.
    """
    plain = " ".join(_BESIDE.sub(" ", title).split()) or title
    if artist:
        yield {"track_name": plain, "artist_name": artist}
    first, dash, second = plain.partition(" - ")
    if dash:
        yield {"track_name": second, "artist_name": first}
    yield {"q": plain if dash or not artist else f"{artist} {plain}"}


def _best(answer: Any, seconds: float) -> str:
    """The words of the recording whose duration is nearest; empty if none is near."""
    if not isinstance(answer, list):
        raise ValueError("the answer is not a list")
    near: list[tuple[float, str]] = []
    for entry in answer:
        if isinstance(entry, dict) and isinstance(length := entry.get("duration"), int | float):
            text = _text(entry)
            if abs(length - seconds) <= SAME_SECONDS and 0 < len(text) <= MAX_LYRICS_TEXT:
                near.append((abs(length - seconds), text))
    return min(near)[1] if near else ""


def _text(entry: dict[str, Any]) -> str:
    """An entry's words without their times; empty if it has none."""
    text = entry.get("plainLyrics") or entry.get("syncedLyrics")
    if not isinstance(text, str):
        return ""
    text = _WORD_TIME.sub("", _LINE_TIME.sub("", text)).strip()
    return text if any(character.isalnum() for character in text) else ""
