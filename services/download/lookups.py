"""Searches and the details of links: asked of sites in child processes, and kept, so that sites are asked little."""

import asyncio
import hashlib
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import delete

from services.common.database import Database
from services.common.engine import Engine, Report
from services.common.errors import UnavailableError
from services.download.config import DownloadSettings
from services.download.locks import Locks
from services.download.sites import Sites
from services.download.tables import Lookup

AT_ONCE = 3
IDLE_SECONDS = 120.0

Answer = dict[str, Any]


class LookupWork:
    """Asks the sites, in a child process."""

    def __init__(self, settings: DownloadSettings) -> None:
        self._sites = Sites(settings)

    def __call__(self, task: dict[str, Any], report: Report) -> Answer:
        """Answers `{"query", "count", "folder"}` or `{"url", "folder"}`; with `"cookies_of"`, with the cookies.

        Returns:
            `song` (of a link) and `entries`, each a `Song` as JSON.

        Raises:
            StemTubeError: see `Sites.downloader`.
        """
        report("asking", 0.0)
        folder, use_cookies = Path(task["folder"]), "cookies_of" in task
        if "query" in task:
            found = self._sites.search(task["query"], task["count"], folder, use_cookies=use_cookies)
            return {"entries": [asdict(song) for song in found]}
        song, entries = self._sites.look_up(task["url"], folder, use_cookies=use_cookies)
        return {"song": asdict(song), "entries": [asdict(entry) for entry in entries]}


class Lookups:
    """Answers questions from what is kept, or has them asked; several at a time."""

    def __init__(self, settings: DownloadSettings, database: Database) -> None:
        self._database = database
        self._seconds = settings.download.lookup_seconds
        self._age = timedelta(days=settings.download.lookup_days)
        self._engines = [
            Engine("download-lookup", LookupWork, settings, settings.log, IDLE_SECONDS) for _ in range(AT_ONCE)
        ]
        self._free = list(self._engines)
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._asking = Locks()

    async def search(self, query: str, count: int, cookies_of: str = "") -> Answer:
        """Songs that match some words; see `LookupWork`.

        Args:
            query: the words.
            count: of songs.
            cookies_of: id of a user for whom the operator's cookies are used; the answer is kept for that user alone.

        Raises:
            StemTubeError: see `Sites.downloader`.
            UnavailableError: it takes too long (reason LOOKUP_TIMEOUT).
        """
        return await self._answer({"query": query, "count": count}, cookies_of)

    async def look_up(self, url: str, cookies_of: str = "") -> Answer:
        """What a checked link leads to; like `search`."""
        return await self._answer({"url": url}, cookies_of)

    async def forget_old(self) -> None:
        """Removes answers that count no more."""
        async with self._database.write() as session:
            await session.execute(delete(Lookup).where(Lookup.create_time < datetime.now(UTC) - self._age))

    async def close(self) -> None:
        """Ends the child processes."""
        await asyncio.gather(*(engine.close() for engine in self._engines))

    async def _answer(self, task: dict[str, Any], cookies_of: str) -> Answer:
        task |= {"cookies_of": cookies_of} if cookies_of else {}
        # Earlier versions asked with cookies for everybody: their answers, under other names, do not count.
        question = hashlib.sha256(repr(("without cookies", *sorted(task.items()))).encode()).hexdigest()
        async with self._asking.of(question):
            async with self._database.read() as session:
                kept = await session.get(Lookup, question)
            if kept is not None and kept.create_time > datetime.now(UTC) - self._age:
                return kept.content
            content = await self._ask(task)
            async with self._database.write() as session:
                await session.merge(Lookup(id=question, content=content, create_time=datetime.now(UTC)))
            return content

    async def _ask(self, task: dict[str, Any]) -> Answer:
        async with self._turns:
            engine = self._free.pop()
            try:
                with tempfile.TemporaryDirectory() as folder:
                    async with asyncio.timeout(self._seconds):
                        return await engine.run(task | {"folder": folder}, lambda *_arguments, **_detail: None)
            except TimeoutError:
                raise UnavailableError("The site takes too long to answer.", "LOOKUP_TIMEOUT") from None
            finally:
                self._free.append(engine)
