"""Fetching what a link leads to, with yt-dlp, in a child process of its own: a hang or crash costs that one job."""

from pathlib import Path
from typing import Any

import structlog

from services.common.engine import Report
from services.common.errors import Code, InvalidInputError, LimitExceededError, StemTubeError
from services.download.config import DownloadSettings

log = structlog.get_logger(__name__)

SOCKET_SECONDS = 20


class FetchFailedError(StemTubeError):
    """The link could not be fetched; the message is what yt-dlp says of it."""

    code = Code.FAILED_PRECONDITION
    reason = "FETCH_FAILED"


class FetchWork:
    """Fetches the best audio of a link, as it is, into a folder."""

    def __init__(self, settings: DownloadSettings) -> None:
        self._limits = settings.limits

    def __call__(self, task: dict[str, Any], report: Report) -> dict[str, Any]:
        """Fetches `{"url", "folder"}`.

        Returns:
            `path` of the file, `title`, `artist`, `source_url`.

        Raises:
            FetchFailedError: yt-dlp cannot fetch it.
            InvalidInputError: it is live, or a list (reason IS_LIVE, IS_PLAYLIST).
            LimitExceededError: longer or larger than allowed (reason TOO_LONG, TOO_LARGE).
            StoppedError: out of `report`.
        """
        import yt_dlp

        def show(progress: dict[str, Any]) -> None:
            total = progress.get("total_bytes") or progress.get("total_bytes_estimate") or 0
            done = progress.get("downloaded_bytes") or 0
            if max(done, total) > self._limits.max_bytes:
                raise LimitExceededError(f"The file is larger than {self._limits.max_bytes} bytes.", "TOO_LARGE")
            report("fetching", min(done / total, 1.0) if total else 0.0)

        options = {
            "format": "bestaudio/best",
            "outtmpl": {"default": str(Path(task["folder"]) / "audio.%(ext)s")},
            "noplaylist": True,
            "quiet": True,
            "noprogress": True,
            "no_color": True,
            "cachedir": False,
            "socket_timeout": SOCKET_SECONDS,
            "retries": 5,
            "progress_hooks": [show],
            "logger": _Log(),
        }
        try:
            with yt_dlp.YoutubeDL(options) as downloader:
                found = downloader.extract_info(task["url"], download=False)
                self._check(found)
                found = downloader.process_ie_result(found, download=True)
                path = found["requested_downloads"][0]["filepath"]
        except yt_dlp.utils.YoutubeDLError as error:
            cause = getattr(error, "exc_info", (None, None))[1]
            if isinstance(cause, StemTubeError):
                raise cause from None
            raise FetchFailedError(_readable(str(error))) from None
        return {
            "path": path,
            "title": str(found.get("track") or found.get("title") or ""),
            "artist": str(found.get("artist") or found.get("uploader") or ""),
        }

    def _check(self, found: dict[str, Any]) -> None:
        if found.get("entries") is not None:
            raise InvalidInputError("The link leads to a list; choose one of its entries.", "IS_PLAYLIST")
        if found.get("is_live"):
            raise InvalidInputError("The link leads to a live stream, which has no end.", "IS_LIVE")
        if (found.get("duration") or 0) > self._limits.max_seconds:
            raise LimitExceededError(f"The song is longer than {self._limits.max_seconds:.0f} s.", "TOO_LONG")


def _readable(message: str) -> str:
    """yt-dlp's message without its mark and its advice on how to report bugs."""
    return message.removeprefix("ERROR: ").partition("; please report this issue")[0].strip()


class _Log:
    def debug(self, message: str) -> None:
        log.debug("yt-dlp", detail=message)

    def warning(self, message: str) -> None:
        log.info("yt-dlp", detail=message)

    def error(self, message: str) -> None:
        log.info("yt-dlp", detail=message)
