"""A track's audio, stems and peaks: the library checks access and returns the key; the object store has the bytes."""

import hashlib
import math
import re
from collections.abc import AsyncIterator
from datetime import UTC
from email.utils import format_datetime
from typing import Any
from urllib.parse import quote

import structlog
from aiohttp import hdrs, web

from gateway.errors import HttpError
from gateway.keys import CHANNELS, MEDIA, SETTINGS, STORE
from gateway.media.ranges import Part, UnsatisfiableError, is_other_version, is_unchanged, wanted_part
from gateway.session.credentials import call_metadata
from gateway.transcoding.messages import bad_request, query_of
from services.common.errors import Code, NotFoundError, StemTubeError
from services.common.storage.object_info import ObjectInfo
from stemtube.download.v1 import media_pb2, media_pb2_grpc
from stemtube.separation.v1 import separation_pb2

log = structlog.get_logger(__name__)

TRACK = "/api/v1/tracks/{track_id}"
STEM = TRACK + "/stems/{model}/{stem}"
LIVE = "/api/v1/jobs/{job_id}/live/{part}/{stem}"
PICTURES = ("image/jpeg", "image/png", "image/webp")
FORMATS = ("flac", "wav", "mp3", "m4a", "opus")
# Only the browser may cache, and it must ask again each time, so that the library checks access.
CACHING = "private, no-cache"


async def audio(request: web.Request) -> web.StreamResponse:
    """GET …/audio and …/stems/{model}/{stem}: the original or a stem; `?format=` converts it, `?download=1` saves it.

    Raises:
        InvalidInputError: unknown parameters (reason BAD_REQUEST) or format (UNKNOWN_FORMAT).
        grpc.aio.AioRpcError: NOT_FOUND: no such track or stem, or another user's.
    """
    return await _serve(request, media_pb2.MEDIA_KIND_AUDIO, query_of(request, "format", "download"))


async def peaks(request: web.Request) -> web.StreamResponse:
    """GET …/peaks: the waveform's peaks."""
    return await _serve(request, media_pb2.MEDIA_KIND_PEAKS, query_of(request))


async def cover(request: web.Request) -> web.StreamResponse:
    """GET …/cover: the track's picture."""
    return await _serve(request, media_pb2.MEDIA_KIND_COVER, query_of(request))


async def playlist(request: web.Request) -> web.Response:
    """GET …/playlist.m3u8: the files of a stem that is still being made, up to now."""
    query_of(request)
    live = await _live_stems(request)
    seconds = live.file_samples / live.sample_rate_hz
    lines = [
        "#EXTM3U",
        "#EXT-X-VERSION:3",
        f"#EXT-X-TARGETDURATION:{math.ceil(seconds)}",
        "#EXT-X-PLAYLIST-TYPE:EVENT",
        *(line for number in range(live.count) for line in (f"#EXTINF:{seconds:.6f},", f"{number}.flac")),
    ]
    headers = {hdrs.CACHE_CONTROL: "no-store"}
    return web.Response(text="\n".join(lines) + "\n", content_type="application/vnd.apple.mpegurl", headers=headers)


async def live_chunk(request: web.Request) -> web.StreamResponse:
    """GET …/{number}.flac: one file of a playlist.

    Raises:
        NotFoundError: the stem has no such file (yet), or is complete (reason NO_SUCH_STEM).
    """
    query_of(request)
    live = await _live_stems(request)
    number = int(request.match_info["number"])
    if number >= live.count:
        raise NotFoundError("This is not there yet.", "NO_SUCH_STEM")
    stem = request.match_info["stem"]
    info = await request.app[STORE].head(f"{live.key_prefix}/{stem}/{number:05}.flac")
    media = media_pb2.GetMediaResponse(content_type="audio/flac", filename=f"{stem} {number}.flac")
    return await _answer(request, media, info, attachment=False)


async def _live_stems(request: web.Request) -> separation_pb2.LiveStems:
    stub: Any = media_pb2_grpc.MediaServiceStub(request.app[CHANNELS][MEDIA])
    path = request.match_info
    message = media_pb2.GetLiveStemsRequest(job_id=path["job_id"], part=path["part"])
    seconds = request.app[SETTINGS].media_seconds
    answer = await stub.GetLiveStems(message, timeout=seconds, metadata=call_metadata(request))
    live: separation_pb2.LiveStems = answer.live
    if path["stem"] not in live.stems:
        raise NotFoundError("There is no such stem.", "NO_SUCH_STEM")
    return live


async def _serve(
    request: web.Request, kind: media_pb2.MediaKind.ValueType, query: dict[str, str]
) -> web.StreamResponse:
    stub: Any = media_pb2_grpc.MediaServiceStub(request.app[CHANNELS][MEDIA])
    path = request.match_info
    message = media_pb2.GetMediaRequest(
        track_id=path["track_id"],
        model=path.get("model", ""),
        stem=path.get("stem", ""),
        kind=kind,
        format=query.get("format", ""),
    )
    if query.get("download", "0") not in ("0", "1"):
        raise bad_request("download is 0 or 1.")
    media = await stub.GetMedia(message, timeout=request.app[SETTINGS].media_seconds, metadata=call_metadata(request))
    info = await request.app[STORE].head(media.key)
    return await _answer(request, media, info, attachment=query.get("download") == "1")


async def _answer(
    request: web.Request, media: media_pb2.GetMediaResponse, info: ObjectInfo, attachment: bool
) -> web.StreamResponse:
    etag = _entity_tag(info)
    common: dict[str, str] = {
        hdrs.ETAG: etag,
        hdrs.CACHE_CONTROL: CACHING,
        hdrs.LAST_MODIFIED: format_datetime(info.last_modified.astimezone(UTC), usegmt=True),
        hdrs.ACCEPT_RANGES: "bytes",
    }
    if is_other_version(request, etag, info.last_modified):
        raise HttpError(412, Code.FAILED_PRECONDITION, "This has changed meanwhile.", "CHANGED", common)
    if is_unchanged(request, etag, info.last_modified):
        return web.Response(status=304, headers=common)
    part = None
    if request.method == hdrs.METH_GET:
        try:
            part = wanted_part(request.headers, info.size, etag, info.last_modified)
        except UnsatisfiableError:
            headers = {**common, hdrs.CONTENT_RANGE: f"bytes */{info.size}"}
            message = f"There are only {info.size} bytes."
            raise HttpError(416, Code.INVALID_ARGUMENT, message, "BAD_RANGE", headers) from None
    response = web.StreamResponse(status=200 if part is None else 206, headers=common)
    response.content_type = _content_type(media.content_type)
    response.headers[hdrs.CONTENT_DISPOSITION] = disposition(media.filename, attachment)
    if part is not None:
        end = part.start + part.length - 1
        response.headers[hdrs.CONTENT_RANGE] = f"bytes {part.start}-{end}/{info.size}"
    part = part or Part(0, info.size)
    response.content_length = part.length
    await response.prepare(request)
    if request.method != hdrs.METH_HEAD:
        await _write(request, response, info, part)
    return response


async def _write(request: web.Request, response: web.StreamResponse, info: ObjectInfo, part: Part) -> None:
    pieces: AsyncIterator[bytes] = request.app[STORE].stream(info.key, part.start, part.length)
    sent = 0
    try:
        async for piece in pieces:
            await response.write(piece)
            sent += len(piece)
    except StemTubeError as error:
        log.warning("media broke off", key=info.key, reason=error.reason)
    if sent < part.length:
        break_off(request)


def break_off(request: web.Request) -> None:
    """Closes the connection: the status has been sent, and otherwise the part would look complete to the client."""
    if request.transport is not None:
        request.transport.abort()


def _entity_tag(info: ObjectInfo) -> str:
    """A strong tag that changes with the object; it is a digest, because tags of stores contain inode numbers."""
    version = f"{info.key}\0{info.size}\0{info.etag or info.last_modified.isoformat()}"
    return f'"{hashlib.sha256(version.encode()).hexdigest()[:32]}"'


def _content_type(media_type: str) -> str:
    """The media type from the library, unless a browser might render it as a page."""
    is_harmless = media_type.startswith(("audio/", "video/")) or media_type in PICTURES
    return media_type if is_harmless else "application/octet-stream"


def disposition(filename: str, attachment: bool) -> str:
    """A Content-Disposition whose file name works in every browser (RFC 6266, RFC 5987)."""
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%/' else "_" for c in filename)
    encoded = quote(filename.encode("utf-8", "replace"), safe="")
    kind = "attachment" if attachment else "inline"
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{encoded}" if filename else kind


routes = [
    web.get(f"{TRACK}/audio", audio),
    web.get(f"{TRACK}/peaks", peaks),
    web.get(f"{TRACK}/cover", cover),
    web.get(STEM, audio),
    web.get(f"{STEM}/peaks", peaks),
    web.get(f"{LIVE}/playlist.m3u8", playlist),
    web.get(LIVE + r"/{number:\d{1,6}}.flac", live_chunk),
]


def _media_operation(path: str, operation: str, summary: str, with_format: bool, media_type: str) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", path)
    ]
    if with_format:
        parameters += [
            {
                "name": "format",
                "in": "query",
                "description": "Default: the file as it is stored. Another format is made first if necessary.",
                "schema": {"type": "string", "enum": list(FORMATS)},
            },
            {
                "name": "download",
                "in": "query",
                "description": "1: the browser saves it instead of playing it.",
                "schema": {"type": "string", "enum": ["0", "1"]},
            },
        ]
    error = {"$ref": "#/components/responses/Error"}
    content: dict[str, Any] = {media_type: {}}
    return {
        "get": {
            "operationId": operation,
            "tags": ["DownloadService"],
            "summary": summary,
            "description": "Answers HEAD, Range, If-Range, If-None-Match and If-Match.",
            "parameters": parameters,
            "responses": {
                "200": {"description": "All of it.", "content": content},
                "206": {"description": "The requested range.", "content": content},
                "304": {"description": "The client has the current version (If-None-Match)."},
                "401": error,
                "404": error,
                "416": error,
                "default": error,
            },
        }
    }


_PEAKS = ", in the binary format of BBC audiowaveform (version 2), which peaks.js reads."
_OPERATIONS = (
    (f"{TRACK}/audio", "GetTrackAudio", "The original audio.", True, "audio/*"),
    (f"{TRACK}/peaks", "GetTrackPeaks", "The original's waveform peaks" + _PEAKS, False, "application/octet-stream"),
    (f"{TRACK}/cover", "GetTrackCover", "The track's picture.", False, "image/*"),
    (STEM, "GetStemAudio", "A stem.", True, "audio/*"),
    (f"{STEM}/peaks", "GetStemPeaks", "A stem's waveform peaks" + _PEAKS, False, "application/octet-stream"),
    (
        f"{LIVE}/playlist.m3u8",
        "GetLivePlaylist",
        "The files of a stem that is still being made, in order. It grows, and is removed when the stem is complete.",
        False,
        "application/vnd.apple.mpegurl",
    ),
    (f"{LIVE}/{{number}}.flac", "GetLiveChunk", "One file of such a playlist.", False, "audio/flac"),
)
OPENAPI: dict[str, Any] = {operation[0]: _media_operation(*operation) for operation in _OPERATIONS}
