"""Uploads to the library: sends a large file in pieces with the tus protocol, so it survives a broken connection."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

from cli.api import CHUNK, PATIENCE_SECONDS, RECONNECT_SECONDS, Api, ApiError, AwayError, Json

# Sending a smaller file again is as quick as asking how much of it has arrived.
SMALL_BYTES = 8 * 1024 * 1024
# Of one request. Even on a slow line it takes far less time than an access token is valid.
PIECE_BYTES = 32 * 1024 * 1024
TUS = {"Tus-Resumable": "1.0.0"}
TRACK, JOB = "Stemtube-Track-Id", "Stemtube-Job-Id"
# Signed out, timeout, another offset, too many waiting files, and temporary faults of the server.
PASSING = (401, 408, 409, 429, 502, 503, 504)

OnProgress = Callable[[float], None]


async def upload_file(api: Api, path: Path, on_progress: OnProgress, options: Json | None = None) -> Json:
    """Adds a track from a file: {track, job}.

    Raises:
        ApiError: the suite refuses, or stays away; or the file cannot be read.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ApiError(f"{path} cannot be read: {error.strerror}") from None
    if size <= SMALL_BYTES:
        return await api.upload(path, on_progress, options)
    found = await _Upload(api, path, size, on_progress).run(options)
    track = (await api.get(f"/api/v1/tracks/{found[TRACK]}"))["track"]
    return {"track": track, "job": (await api.get(f"/api/v1/jobs/{found[JOB]}"))["job"]}


class _Upload:
    def __init__(self, api: Api, path: Path, size: int, on_progress: OnProgress) -> None:
        self._api = api
        self._path = path
        self._size = size
        self._on_progress = on_progress

    async def run(self, options: Json | None) -> Mapping[str, str]:
        """Sends the whole file; returns the headers of the last answer."""
        values = {"filename": self._path.name} | ({"options": json.dumps(options)} if options else {})
        metadata = ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in values.items())
        headers = TUS | {"Upload-Length": str(self._size), "Upload-Metadata": metadata}
        place = (await self._api.headers_of("POST", "/api/v1/uploads", headers=headers))["Location"]
        offset, moved_at = 0, time.monotonic()
        while True:
            try:
                found = await self._send(place, offset)
            except ApiError as error:
                if not _may_pass(error) or time.monotonic() - moved_at > PATIENCE_SECONDS:
                    raise
                await asyncio.sleep(RECONNECT_SECONDS)
                try:
                    found = await self._api.headers_of("HEAD", place, headers=TUS)
                except ApiError as still:
                    if not _may_pass(still):
                        raise error from still
                    continue
            if TRACK in found:
                return found
            if int(found["Upload-Offset"]) > offset:
                moved_at = time.monotonic()
            offset = int(found["Upload-Offset"])

    async def _send(self, place: str, offset: int) -> Mapping[str, str]:
        """Sends the next piece."""
        length = min(PIECE_BYTES, self._size - offset)
        headers = TUS | {
            "Upload-Offset": str(offset),
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(length),
        }
        return await self._api.headers_of("PATCH", place, headers=headers, data=self._chunks(offset, length))

    async def _chunks(self, offset: int, length: int) -> AsyncIterator[bytes]:
        with self._path.open("rb") as file:
            file.seek(offset)
            end = offset + length
            while offset < end and (chunk := await asyncio.to_thread(file.read, min(CHUNK, end - offset))):
                yield chunk
                offset += len(chunk)
                self._on_progress(offset / self._size)


def _may_pass(error: ApiError) -> bool:
    return isinstance(error, AwayError) or error.status in PASSING
