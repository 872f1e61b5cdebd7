"""Lyrics that others have written down, asked of a site with LRCLIB's API (https://lrclib.net/docs) by name.

What is found is a guess: the analysis compares it with what is sung.
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
# Recordings of one song differ by more than this, files of one recording by less.
SAME_SECONDS = 5.0
# What names of videos have beside the song's: "(Official Video)", "[HD]", "| Lyrics".
_BESIDE = re.compile(
    r"[(\[|][^()\[\]|]*\b(?:official|video|audio|lyrics?|visuali[sz]er|hd|hq|4k|remaster(?:ed)?|karaoke)\b[^()\[\]|]*[)\]]?",
    re.IGNORECASE,
)
_LINE_TIME = re.compile(r"^\s*(?:\[[0-9:.]+\]\s*)+", re.MULTILINE)
_WORD_TIME = re.compile(r"<[0-9:.]+>\s*")


class FoundLyrics:
    """Asks one site.

    Args:
        url: its base, such as `https://lrclib.net`; empty: none is asked.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        # LRCLIB wants to know who asks.
        self._agent = f"StemTube/{importlib.metadata.version('stemtube')}"

    async def find(self, title: str, artist: str, seconds: float) -> str:
        """Words for a song, line by line; empty if none are known, or the site cannot be asked.

        Args:
            title: of the song, or of its video.
            artist: may be empty, or who has put it on the web.
            seconds: the song's length: other recordings have other words, or none.
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
            log.warning("no lyrics could be looked up", site=self._url, error=str(error) or type(error).__name__)
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
    """What to ask, the surest first. A video's title often names the artist, and its artist is who put it there."""
    plain = " ".join(_BESIDE.sub(" ", title).split()) or title
    if artist:
        yield {"track_name": plain, "artist_name": artist}
    first, dash, second = plain.partition(" - ")
    if dash:
        yield {"track_name": second, "artist_name": first}
    yield {"q": plain if dash or not artist else f"{artist} {plain}"}


def _best(answer: Any, seconds: float) -> str:
    """The words of the recording that is nearest in length."""
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
