"""Fetches the audio of a link in a child process, so that a hang or crash affects only one job."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from services.common.compute.engine import Report
from services.common.errors import LimitExceededError
from services.download.config import DownloadSettings
from services.download.fetching.pictures import MAX_PICTURE_BYTES, picture_suffix
from services.download.fetching.sites import Sites, Song, song_of

log = structlog.get_logger(__name__)


class FetchWork:
    """Fetches the best audio of a link, unchanged, into a folder, and resumes a partial download that is there."""

    def __init__(self, settings: DownloadSettings) -> None:
        self._sites = Sites(settings)
        self._limits = settings.limits

    def __call__(self, task: dict[str, Any], report: Report) -> dict[str, Any]:
        """Fetches a link.

        Args:
            task: `url`, `folder` and `use_cookies`.
            report: called with the progress.

        Returns:
            `path` of the file, `title`, `artist`, `source`, `license`, and `cover`, the path of a picture or empty.

        Raises:
            StemTubeError: see `Sites.downloader` and `Sites.check`, or the file is too large (reason TOO_LARGE).
            StoppedError: raised by `report`.
        """
        folder = Path(task["folder"])

        def show(progress: dict[str, Any]) -> None:
            total = progress.get("total_bytes") or progress.get("total_bytes_estimate") or 0
            done = progress.get("downloaded_bytes") or 0
            if max(done, total) > self._limits.max_bytes:
                raise LimitExceededError(f"The file is larger than {self._limits.max_bytes} bytes.", "TOO_LARGE")
            report(
                "fetching",
                min(done / total, 1.0) if total else 0.0,
                bytes_done=done,
                bytes_per_second=progress.get("speed"),
                eta_seconds=progress.get("eta"),
            )

        options = {"outtmpl": {"default": str(folder / "audio.%(ext)s")}, "progress_hooks": [show]}
        with self._sites.downloader(folder, use_cookies=task.get("use_cookies", False), **options) as downloader:
            found = downloader.extract_info(task["url"], download=False)
            self._sites.check(found)
            report("fetching", 0.0)
            found = downloader.process_ie_result(found, download=True)
            song = song_of(found)
            if song.source == "Generic":  # yt-dlp's name for any site that it does not know
                song = replace(song, source="")
            cover = self._picture(downloader, song, folder)
        return {
            "path": found["requested_downloads"][0]["filepath"],
            "title": song.title,
            "artist": song.artist,
            "source": song.source,
            "license": song.license,
            "cover": cover,
        }

    def _picture(self, downloader: Any, song: Song, folder: Path) -> str:
        """Fetches a song's picture and returns its path; empty if there is none or it cannot be used."""
        if not song.thumbnail:
            return ""
        from yt_dlp.utils import YoutubeDLError

        try:
            with downloader.urlopen(song.thumbnail) as answer:
                data = answer.read(MAX_PICTURE_BYTES + 1)
        except (YoutubeDLError, OSError) as error:
            log.info("the picture of a link cannot be fetched", detail=str(error))
            return ""
        if len(data) > MAX_PICTURE_BYTES or not picture_suffix(data):
            return ""
        path = folder / "picture"
        path.write_bytes(data)
        return str(path)
