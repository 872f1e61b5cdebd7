"""Songs, lists and searches on the web, by yt-dlp. For child processes only, because yt-dlp may hang or crash.

Once a process has made a `Sites`, it can connect to public addresses only (see `guard`), and its memory is limited.
"""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog

from services.common.compute.confinement import limit_memory
from services.common.errors import (
    Code,
    InvalidInputError,
    LimitExceededError,
    NotFoundError,
    StemTubeError,
    UnavailableError,
)
from services.common.javascript import deno_path
from services.common.limits import MAX_LINK_ENTRIES
from services.download.config import DownloadSettings
from services.download.fetching.cookies import copy_cookies
from services.download.fetching.guard import Guard

log = structlog.get_logger(__name__)

SOCKET_SECONDS = 20
TRIES = 5
LONGEST_PAUSE_SECONDS = 20
# A compressed page can expand to any size. yt-dlp takes 45 MB, its JavaScript runtime 230 MB for three million objects.
MEMORY_BYTES = 1024**3
# The protocols that yt-dlp fetches itself. For others it would start programs that are not guarded.
PROTOCOLS = "https?|m3u8(_native)?|http_dash_segments(_generator)?"
BEST_AUDIO = f"bestaudio[protocol~='^({PROTOCOLS})$']/best[protocol~='^({PROTOCOLS})$']"


class FetchFailedError(StemTubeError):
    """The link could not be fetched; the message says why."""

    code = Code.FAILED_PRECONDITION
    reason = "FETCH_FAILED"


_REFUSALS = {
    "BLOCKED": "The site requires a signed-in user: the operator can set DOWNLOAD__COOKIES_FILE.",
    "AGE_RESTRICTED": "The link is for adults who have signed in.",
    "MEMBERS_ONLY": "The link is for members only.",
    "PRIVATE": "The link is private.",
    "GEO_BLOCKED": "The link is blocked in the country of this server.",
    "DRM": "The link is protected against copying.",
    "NOT_YET": "The link has not been published yet.",
    "REMOVED": "The link does not exist any more.",
}
# Parts of sites' error messages, as yt-dlp passes them on, in lower case. The first match counts.
_SIGNS = (
    ("not a bot", "BLOCKED"),
    ("confirm your age", "AGE_RESTRICTED"),
    ("age-restricted", "AGE_RESTRICTED"),
    ("members-only", "MEMBERS_ONLY"),
    ("join this channel", "MEMBERS_ONLY"),
    ("premium members", "MEMBERS_ONLY"),
    ("private video", "PRIVATE"),
    ("video is private", "PRIVATE"),
    ("granted access", "PRIVATE"),
    ("in your country", "GEO_BLOCKED"),
    ("in your location", "GEO_BLOCKED"),
    ("geo restrict", "GEO_BLOCKED"),
    ("drm protect", "DRM"),
    ("will begin in", "NOT_YET"),
    ("premieres in", "NOT_YET"),
    ("has been removed", "REMOVED"),
    ("been terminated", "REMOVED"),
    ("video unavailable", "REMOVED"),
    ("not available", "REMOVED"),
)


@dataclass(frozen=True, slots=True)
class Song:
    """The facts that a site gives about a song or an entry of a list; unknown ones are empty.

    Args:
        url: the link.
        title: title of the song or the video.
        artist: the artist or the channel.
        duration_seconds: 0 if unknown.
        thumbnail: URL of a picture.
        source: yt-dlp's name of the site.
        source_id: the site's id of the song.
        license: the licence, in the site's words.
    """

    url: str
    title: str
    artist: str
    duration_seconds: float
    thumbnail: str
    source: str
    source_id: str
    license: str


def song_of(found: dict[str, Any]) -> Song:
    """Makes a song of yt-dlp's information."""
    thumbnails = [entry.get("url") for entry in found.get("thumbnails") or []]
    return Song(
        url=str(found.get("webpage_url") or found.get("url") or ""),
        title=str(found.get("track") or found.get("title") or ""),
        artist=str(found.get("artist") or found.get("uploader") or found.get("channel") or ""),
        duration_seconds=float(found.get("duration") or 0.0),
        thumbnail=str(found.get("thumbnail") or next(filter(None, reversed(thumbnails)), "")),
        source=str(found.get("extractor_key") or found.get("ie_key") or ""),
        source_id=str(found.get("id") or ""),
        license=str(found.get("license") or ""),
    )


class Sites:
    """Runs yt-dlp with public addresses only, and without external programs.

    Args:
        settings: have the allowed hosts, the proxy and the cookies.
    """

    def __init__(self, settings: DownloadSettings) -> None:
        limit_memory(MEMORY_BYTES)
        section = settings.download
        self._proxy = section.proxy.get_secret_value()
        proxy_host = urlsplit(self._proxy).hostname
        self._guard = Guard([*section.allowed_hosts, *([proxy_host] if proxy_host else [])])
        self._guard.install()
        # curl_cffi does not use Python's sockets, so the guard cannot check its connections.
        sys.modules["curl_cffi"] = None  # type: ignore[assignment]
        self._cookies, self._cookie_hosts = section.cookies_file, section.cookies_hosts
        self._limits = settings.limits

    @contextlib.contextmanager
    def downloader(self, folder: Path, *, use_cookies: bool = False, **options: Any) -> Iterator[Any]:
        """Yields a `yt_dlp.YoutubeDL` with these options in addition to the common ones.

        Args:
            folder: for temporary files; the parent process removes it, however this process ends.
            use_cookies: whether to send the operator's cookies; see `services.download.fetching.cookies`.
            options: options of yt-dlp.

        Raises:
            FetchFailedError: the site refuses (reason PRIVATE, REMOVED, AGE_RESTRICTED, GEO_BLOCKED, BLOCKED …).
            InvalidInputError: a redirect or a page leads to an address that is not public (reason BAD_URL).
            LimitExceededError: the answer does not fit into memory (reason TOO_LARGE).
            NotFoundError: the page does not exist (reason NO_SUCH_PAGE).
            UnavailableError: the site does not answer, or is busy (reason SITE_UNAVAILABLE).
        """
        import yt_dlp

        self._guard.refused = False
        if use_cookies and self._cookies:
            options["cookiefile"] = copy_cookies(self._cookies, self._cookie_hosts, folder / "cookies")
        common = {
            "format": BEST_AUDIO,
            "noplaylist": True,
            "quiet": True,
            "noprogress": True,
            "no_color": True,
            "cachedir": False,
            "socket_timeout": SOCKET_SECONDS,
            "retries": TRIES,
            "fragment_retries": TRIES,
            "retry_sleep_functions": dict.fromkeys(("http", "fragment", "extractor"), self._pause),
            "skip_unavailable_fragments": False,
            "fixup": "never",
            "ffmpeg_location": str(folder),  # no FFmpeg is there: it would read any file that a playlist names
            "js_runtimes": {"deno": {"path": deno_path()}},
            "proxy": self._proxy,
            "logger": _Log(),
        }
        try:
            with yt_dlp.YoutubeDL(common | options) as downloader:
                yield downloader
        except (yt_dlp.utils.YoutubeDLError, OSError) as error:
            raise self._reason(error) from None
        except MemoryError:
            raise LimitExceededError("The site's answer takes too much memory.", "TOO_LARGE") from None

    def look_up(self, url: str, folder: Path, *, use_cookies: bool = False) -> tuple[Song, list[Song]]:
        """Looks up where a link leads, without fetching it.

        Returns:
            A song and no entries, or a list (its title is the song's) and its first 200 entries.

        Raises:
            StemTubeError: see `downloader`.
        """
        with self.downloader(
            folder,
            use_cookies=use_cookies,
            extract_flat="in_playlist",
            playlistend=MAX_LINK_ENTRIES,
            noplaylist=False,
        ) as downloader:
            found = downloader.extract_info(url, download=False)
            entries = found.get("entries")
            return song_of(found), [] if entries is None else [song_of(entry) for entry in entries if entry]

    def search(self, query: str, count: int, folder: Path, *, use_cookies: bool = False) -> list[Song]:
        """Searches YouTube for songs, and returns the best match first.

        Raises:
            StemTubeError: see `downloader`.
        """
        with self.downloader(folder, use_cookies=use_cookies, extract_flat=True) as downloader:
            found = downloader.extract_info(f"ytsearch{count}:{query}", download=False)
            return [song_of(entry) for entry in found.get("entries") or [] if entry]

    def check(self, found: dict[str, Any]) -> None:
        """Checks that a link leads to a song.

        Args:
            found: yt-dlp's information.

        Raises:
            InvalidInputError: it is a live stream or a list (reason IS_LIVE, IS_PLAYLIST).
            LimitExceededError: it is longer than allowed (reason TOO_LONG).
        """
        if found.get("entries") is not None:
            raise InvalidInputError("The link leads to a list; choose one of its entries.", "IS_PLAYLIST")
        if found.get("is_live") or found.get("live_status") == "is_live":
            raise InvalidInputError("The link leads to a live stream, which has no end.", "IS_LIVE")
        if (found.get("duration") or 0) > self._limits.max_seconds:
            raise LimitExceededError(f"The song is longer than {self._limits.max_seconds:.0f} s.", "TOO_LONG")

    def _pause(self, n: int) -> float:
        """Seconds to wait after the n-th attempt (from 0); none after a refusal by the guard, which is final."""
        return 0.0 if self._guard.refused else float(min(2**n, LONGEST_PAUSE_SECONDS))

    def _reason(self, error: BaseException) -> StemTubeError:
        from yt_dlp.networking.exceptions import HTTPError, TransportError
        from yt_dlp.utils import GeoRestrictedError, UnsupportedError

        causes = list(_causes(error))
        for cause in causes:
            if isinstance(cause, StemTubeError):
                return cause
        if self._guard.refused:
            return InvalidInputError("The link leads to an address that is not public.", "BAD_URL")
        text = _readable(str(error))
        for cause in causes:
            if isinstance(cause, GeoRestrictedError):
                return FetchFailedError(_REFUSALS["GEO_BLOCKED"], "GEO_BLOCKED")
            if isinstance(cause, UnsupportedError):
                return FetchFailedError("No song was found at this address.", "UNSUPPORTED_SITE")
        for sign, reason in _SIGNS:
            if sign in text.lower():
                return FetchFailedError(_REFUSALS[reason], reason)
        for cause in causes:
            if isinstance(cause, HTTPError):
                if cause.status in (404, 410):
                    return NotFoundError("There is no page at this address.", "NO_SUCH_PAGE")
                if cause.status == 429 or cause.status >= 500:
                    return UnavailableError(f"The site is busy or broken (HTTP {cause.status}).", "SITE_UNAVAILABLE")
                return FetchFailedError(f"The site refuses the request (HTTP {cause.status}).")
        if any(isinstance(cause, TransportError) for cause in causes):
            return UnavailableError("The site does not answer.", "SITE_UNAVAILABLE")
        return FetchFailedError(text)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yields an error and its causes, which yt-dlp keeps in several attributes."""
    waiting, seen = [error], set()
    while waiting:
        cause = waiting.pop(0)
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        exc_info = getattr(cause, "exc_info", None) or (None, None, None)
        more = (exc_info[1], getattr(cause, "cause", None), cause.__cause__, cause.__context__)
        waiting += [other for other in more if isinstance(other, BaseException)]


def _readable(message: str) -> str:
    """yt-dlp's message without the prefix and the advice on how to report bugs."""
    return message.removeprefix("ERROR: ").partition("; please report this issue")[0].strip()


class _Log:
    def debug(self, message: str) -> None:
        log.debug("yt-dlp", detail=message)

    def warning(self, message: str) -> None:
        log.info("yt-dlp", detail=message)

    def error(self, message: str) -> None:
        log.info("yt-dlp", detail=message)
