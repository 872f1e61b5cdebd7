"""Searches sites and looks up the details of links, in child processes. Answers are kept, to spare the sites."""

import asyncio
import hashlib
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import delete

from services.common.compute.engine import Engine, Report
from services.common.compute.engine_pool import EnginePool
from services.common.compute.fair_limiter import FairLimiter
from services.common.errors import UnavailableError
from services.common.storage.database import Database
from services.download.config import DownloadSettings
from services.download.fetching.sites import Sites
from services.download.locks import Locks
from services.download.tables import Lookup

IDLE_SECONDS = 120.0
WAITING, WAITING_PER_USER = 64, 4
# The answer that a site hangs must reach the caller before its deadline.
SPARE_SECONDS = 3.0

Answer = dict[str, Any]


class LookupWork:
    """Searches and looks up links in a child process."""

    def __init__(self, settings: DownloadSettings) -> None:
        self._sites = Sites(settings)

    def __call__(self, task: dict[str, Any], report: Report) -> Answer:
        """Searches, or looks up a link.

        Args:
            task: `query`, `count` and `folder` for a search, `url` and `folder` for a link; with `cookies_of`, the
                operator's cookies are used.
            report: called once, at the start.

        Returns:
            `entries`, and `song` for a link; each song is a `Song` as JSON.

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
    """Answers searches and look-ups from the database or from the sites, within limits for all and for each user."""

    def __init__(self, settings: DownloadSettings, database: Database) -> None:
        self._database = database
        self._seconds = settings.download.lookup_seconds
        self._age = timedelta(days=settings.download.lookup_days)
        limiter = FairLimiter(
            "lookups",
            settings.download.lookup_children,
            settings.download.lookup_children_per_user,
            waiting=WAITING,
            waiting_per_user=WAITING_PER_USER,
        )
        self._children = EnginePool(
            lambda: Engine("download-lookup", LookupWork, settings, settings.log, IDLE_SECONDS), limiter
        )
        self._running: set[asyncio.Task[Answer]] = set()
        self._asking = Locks()

    async def search(
        self, user_id: str, query: str, count: int, seconds: float | None = None, *, use_cookies: bool = False
    ) -> Answer:
        """Searches for songs; see `LookupWork`.

        Args:
            user_id: the user who searches.
            query: the words to search for.
            count: the number of songs.
            seconds: the time until the caller's deadline; None for no deadline.
            use_cookies: whether to use the operator's cookies; the answer is then kept for this user alone.

        Raises:
            StemTubeError: see `Sites.downloader`.
            LimitExceededError: too many of the user's look-ups wait, or one waits too long (reason TOO_MANY_WAITING).
            UnavailableError: the site takes too long (reason LOOKUP_TIMEOUT).
        """
        return await self._answer(user_id, {"query": query, "count": count}, seconds, use_cookies)

    async def look_up(
        self, user_id: str, url: str, seconds: float | None = None, *, use_cookies: bool = False
    ) -> Answer:
        """Looks up where a checked link leads; arguments and errors as for `search`."""
        return await self._answer(user_id, {"url": url}, seconds, use_cookies)

    async def forget_old(self) -> None:
        """Removes answers that have expired."""
        async with self._database.write() as session:
            await session.execute(delete(Lookup).where(Lookup.create_time < datetime.now(UTC) - self._age))

    async def close(self) -> None:
        """Ends the child processes."""
        running = set(self._running)
        for asking in running:
            asking.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._children.close()

    async def _answer(self, user_id: str, task: dict[str, Any], seconds: float | None, use_cookies: bool) -> Answer:
        task |= {"cookies_of": user_id} if use_cookies else {}
        # Earlier versions used cookies for all users. Their answers have other hashes, so they are not used.
        question = hashlib.sha256(repr(("without cookies", *sorted(task.items()))).encode()).hexdigest()
        # Each user has a lock, so that nobody waits for the turn of another user.
        async with self._asking.of(f"{user_id} {question}"):
            async with self._database.read() as session:
                kept = await session.get(Lookup, question)
            if kept is not None and kept.create_time > datetime.now(UTC) - self._age:
                return kept.content
            content = await self._ask(user_id, task, seconds)
            async with self._database.write() as session:
                await session.merge(Lookup(id=question, content=content, create_time=datetime.now(UTC)))
            return content

    async def _ask(self, user_id: str, task: dict[str, Any], seconds: float | None) -> Answer:
        most = min(self._seconds, max(seconds - SPARE_SECONDS, 0.0)) if seconds is not None else self._seconds
        # In its own task, so that the answer does not wait for the end of a child that hangs.
        asking = asyncio.create_task(self._ask_child(user_id, task, most / 2))
        self._running.add(asking)
        asking.add_done_callback(self._forget_running)
        try:
            async with asyncio.timeout(most):
                return await asyncio.shield(asking)
        except TimeoutError:
            raise UnavailableError("The site takes too long to answer.", "LOOKUP_TIMEOUT") from None
        finally:
            asking.cancel()

    async def _ask_child(self, user_id: str, task: dict[str, Any], wait_seconds: float) -> Answer:
        async with self._children.engine(user_id, wait_seconds=wait_seconds) as engine:
            with tempfile.TemporaryDirectory() as folder:
                return await engine.run(task | {"folder": folder}, lambda *_arguments, **_detail: None)

    def _forget_running(self, asking: asyncio.Task[Answer]) -> None:
        self._running.discard(asking)
        _ = asking.cancelled() or asking.exception()  # marks the exception as seen: nobody may wait for it any more
