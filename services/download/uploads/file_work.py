"""Inspects and converts files in a child process."""

import asyncio
import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from services.common import audio
from services.common.compute.engine import Report
from services.common.storage.marked_store import open_marked_store
from services.download.config import DownloadSettings
from services.download.fetching.pictures import MAX_PICTURE_BYTES, picture_name, picture_suffix

PEAKS_TYPE = "application/octet-stream"


class FileWork:
    """Runs the tasks `inspect` and `transcode` on objects of the store."""

    def __init__(self, settings: DownloadSettings) -> None:
        self._objects = open_marked_store(settings)
        self._limits = settings.limits
        self._sandbox = audio.Sandbox(**settings.decoder.model_dump())

    def __call__(self, task: dict[str, Any], report: Report) -> dict[str, Any]:
        """Runs a task, `{"do": "inspect" | "transcode", …}`."""
        return self._inspect(task, report) if task["do"] == "inspect" else self._transcode(task, report)

    def _inspect(self, task: dict[str, Any], report: Report) -> dict[str, Any]:
        """Decodes the whole object `key` (or the file `path` with the same bytes), and stores its peaks as `peaks_key`.

        A picture in the file is stored as `cover_key`. The result has its name as `cover`, empty if there is none.

        Raises:
            StemTubeError: the file is not usable as a song; see `audio.inspect`.
        """
        with Path(task["path"]).open("rb") if task["path"] else self._objects.open(task["key"]) as source:
            found = audio.inspect(source, self._limits, lambda done: report("checking", done), self._sandbox)
        picture = found.picture
        asyncio.run(self._objects.put(task["peaks_key"], found.peaks.to_bytes(), PEAKS_TYPE))
        if not picture_suffix(picture) or len(picture) > MAX_PICTURE_BYTES:
            picture = b""
        else:
            asyncio.run(self._objects.put(task["cover_key"], picture))
        info = found.info
        return {
            "content_hash": found.content_hash,
            "duration_seconds": info.duration_seconds,
            "sample_rate_hz": info.sample_rate_hz,
            "channels": info.channels,
            "loudness_lufs": found.loudness_lufs,
            "container": info.container,
            "title": info.tags.get("title", ""),
            "artist": info.tags.get("artist", ""),
            "cover": picture_name(picture) if picture else "",
            "notes": [dataclasses.asdict(note) for note in info.notes],
        }

    def _transcode(self, task: dict[str, Any], report: Report) -> dict[str, Any]:
        """Converts the object `key` to `format`, and stores the result as the object `to`."""
        with tempfile.TemporaryDirectory() as folder, self._objects.open(task["key"]) as source:
            path = Path(folder) / "audio"
            audio.transcode(
                source,
                path,
                task["format"],
                on_progress=lambda done: report("converting", done),
                sandbox=self._sandbox,
            )
            asyncio.run(self._objects.put(task["to"], path, audio.CONTENT_TYPES[task["format"]]))
        return {}
