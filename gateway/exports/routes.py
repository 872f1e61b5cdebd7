"""GET /api/v1/tracks/{track_id}/exports/{format}: a track as a file for another program."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import structlog
from aiohttp import hdrs, web

from gateway.config import GatewaySettings
from gateway.exports.export import Archive, Document, Export, Option, Options, Rendering, Track, TrackStem
from gateway.exports.registry import EXPORTS
from gateway.exports.rendering import Renderer
from gateway.exports.stems import zipped
from gateway.exports.track import named_after
from gateway.keys import CHANNELS, MEDIA, SETTINGS, STORE, TRACKS
from gateway.media.media import CACHING, TRACK, break_off, disposition
from gateway.session.credentials import call_metadata, turn_key
from gateway.transcoding.messages import bad_request, query_of
from services.common.compute.fair_limiter import Place
from services.common.errors import NotFoundError, StemTubeError
from services.common.storage.object_info import ObjectInfo
from services.common.storage.pieces import CHUNK_BYTES
from stemtube.download.v1 import media_pb2, media_pb2_grpc, track_pb2, track_pb2_grpc

log = structlog.get_logger(__name__)

RENDERER = web.AppKey("renderer", Renderer)
PATH = TRACK + "/exports/{format}"
LEAST_BYTES_PER_SECOND = 64 * 1024
SLOW_SECONDS = 60.0
"""A client that takes a file from the disk may be behind the least rate by so much time, in all."""
MOST_SECONDS = 1200.0
"""Longest time that it may take for the whole file: others wait for its place."""
GIVE_WAY_SECONDS = 20.0
"""Time to complete a file whose place a user without one waits for."""


def add_exports(app: web.Application, config: GatewaySettings) -> None:
    """Adds exports to the gateway."""
    app[RENDERER] = Renderer(config)
    app.on_cleanup.append(_close)
    app.add_routes([web.get(PATH, export_track)])


async def _close(app: web.Application) -> None:
    await app[RENDERER].close()


async def export_track(request: web.Request) -> web.StreamResponse:
    """GET …/exports/{format}: the file, as a download.

    Raises:
        NotFoundError: no such format (reason UNKNOWN_FORMAT), or a part of the track is missing (NO_LYRICS, NO_BEATS,
            NO_CHORDS, NO_SECTIONS, NO_RESULTS, NO_STEMS, NO_SUCH_STEM, NO_SUCH_OBJECT).
        InvalidInputError: the query makes no sense (reason BAD_REQUEST).
        LimitExceededError: too many exports of the caller wait to be made (reason TOO_MANY_WAITING).
        UnavailableError: sound could not be made in time (reason EXPORT_TIMEOUT), or the store is away (STORE_AWAY).
        grpc.aio.AioRpcError: NOT_FOUND: no such track, or another user's.
    """
    name = request.match_info["format"]
    if name not in EXPORTS:
        raise NotFoundError(f"There is no such format; there are {', '.join(EXPORTS)}.", "UNKNOWN_FORMAT")
    export = EXPORTS[name]
    options = _options(request, export)
    library = _Library(request)
    track = await library.track()
    made = await asyncio.to_thread(export.make, track, options)
    response = web.StreamResponse(headers={hdrs.CACHE_CONTROL: CACHING})
    response.headers[hdrs.CONTENT_TYPE] = _content_type(made.type.content_type)
    response.headers[hdrs.CONTENT_DISPOSITION] = disposition(named_after(track) + made.type.suffix, attachment=True)
    async with _body(library, export, made) as body:
        response.content_length = body.length
        await response.prepare(request)
        if request.method != hdrs.METH_HEAD:
            await _send(request, response, body)
    return response


def _options(request: web.Request, export: Export) -> Options:
    given = query_of(request, *(option.name for option in export.options))
    options = {}
    for option in export.options:
        options[option.name] = given.get(option.name) or (option.choices[0] if option.choices else "")
        if option.choices and options[option.name] not in option.choices:
            raise bad_request(f"{option.name} is {' or '.join(option.choices)}.")
    return options


def _content_type(media_type: str) -> str:
    return f"{media_type}; charset=utf-8" if media_type.startswith("text/") else media_type


class _Library:
    """The track as in the caller's library, and its objects."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        channels = request.app[CHANNELS]
        self._tracks: Any = track_pb2_grpc.TrackServiceStub(channels[TRACKS])
        self._media: Any = media_pb2_grpc.MediaServiceStub(channels[MEDIA])
        self._track_id = request.match_info["track_id"]
        self.head_only = request.method == hdrs.METH_HEAD
        self.renderer = request.app[RENDERER]
        self.store = request.app[STORE]
        self.turn_key = turn_key(request)

    async def track(self) -> Track:
        message = track_pb2.GetTrackRequest(track_id=self._track_id)
        answer = await self._call(self._tracks.GetTrack, message)
        track: Track = answer.track
        return track

    async def mix(self) -> ObjectInfo:
        return await self._object("", "")

    async def stem(self, stem: TrackStem) -> ObjectInfo:
        return await self._object(stem.model, stem.name)

    async def _object(self, model: str, stem: str) -> ObjectInfo:
        message = media_pb2.GetMediaRequest(
            track_id=self._track_id, model=model, stem=stem, kind=media_pb2.MEDIA_KIND_AUDIO
        )
        media = await self._call(self._media.GetMedia, message)
        return await self.store.head(media.key)

    async def _call(self, rpc: Any, message: Any) -> Any:
        seconds = self._request.app[SETTINGS].call_seconds
        return await rpc(message, timeout=seconds, metadata=call_metadata(self._request))


@dataclass(frozen=True, slots=True)
class _Body:
    """The number of bytes (None if unknown), the bytes, and the place of a file on the disk that has them."""

    length: int | None
    pieces: AsyncIterator[bytes]
    place: Place | None = None


@contextlib.asynccontextmanager
async def _body(library: _Library, export: Export, made: Document | Archive | Rendering) -> AsyncIterator[_Body]:
    """The body of the response. Errors of the request are raised before the first byte."""
    match made:
        case Document():
            content = made.content.encode() if isinstance(made.content, str) else made.content
            yield _Body(len(content), _whole(content))
        case Archive():
            entries = {name: await library.stem(stem) for name, stem in made.stems.items()}
            yield _Body(None, zipped(library.store, entries))
        case Rendering():
            objects = [await library.mix()] if made.with_mix else []
            objects += [await library.stem(stem) for stem in made.stems]
            if library.head_only:
                yield _Body(None, _whole(b""))
                return
            keys = [info.key for info in objects]
            rendered = library.renderer.rendered(library.turn_key, export.name, keys, made.parameters)
            async with rendered as made_file:
                with made_file.path.open("rb") as file:
                    yield _Body(made_file.path.stat().st_size, _pieces(file), made_file.place)


async def _whole(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(file.read, CHUNK_BYTES):
        yield piece


async def _send(request: web.Request, response: web.StreamResponse, body: _Body) -> None:
    """Sends a body. A client that reads a file from the disk too slowly is disconnected."""
    try:
        if body.place:
            await _send_in_time(response, body.pieces, body.place)
        else:
            await _send_all(response, body.pieces)
    except TimeoutError:
        break_off(request)
        log.warning("export broke off", reason="TOO_SLOW")
    except BaseException as error:
        # No error response may follow the sent part, and the sent part must not look complete.
        break_off(request)
        if not isinstance(error, StemTubeError):
            raise
        log.warning("export broke off", reason=error.reason)


async def _send_all(response: web.StreamResponse, pieces: AsyncIterator[bytes]) -> None:
    async for piece in pieces:
        await response.write(piece)
    await response.write_eof()


async def _send_in_time(response: web.StreamResponse, pieces: AsyncIterator[bytes], place: Place) -> None:
    """Sends a file.

    Raises:
        TimeoutError: the client is too slow, or was not done soon after its place was recalled.
    """
    time = asyncio.get_running_loop().time
    began = time()
    latest = began + MOST_SECONDS
    async with asyncio.timeout_at(latest) as limit:

        def give_way() -> None:
            nonlocal latest
            latest = min(latest, time() + GIVE_WAY_SECONDS)
            limit.reschedule(min(latest, limit.when() or latest))

        async def timed() -> AsyncIterator[bytes]:
            sent = 0
            async for piece in pieces:
                sent += len(piece)
                limit.reschedule(min(latest, began + SLOW_SECONDS + sent / LEAST_BYTES_PER_SECOND))
                yield piece

        with place.recallable(give_way):
            await _send_all(response, timed())


def _option_parameters() -> list[dict[str, Any]]:
    """A query parameter for each option. Its description names the formats that have the option."""
    formats: dict[Option, list[str]] = {}
    for export in EXPORTS.values():
        for option in export.options:
            formats.setdefault(option, []).append(export.name)
    return [
        {
            "name": option.name,
            "in": "query",
            "description": f"Of {', '.join(names)}. {option.description}",
            "schema": {"type": "string", **({"enum": list(option.choices)} if option.choices else {})},
        }
        for option, names in formats.items()
    ]


def _format(export: Export) -> dict[str, Any]:
    options = [
        {"name": option.name, "description": option.description, "choices": list(option.choices)}
        for option in export.options
    ]
    return {"name": export.name, "summary": export.summary, "options": options}


_ERROR = {"$ref": "#/components/responses/Error"}
OPENAPI: dict[str, Any] = {
    PATH: {
        "get": {
            "operationId": "ExportTrack",
            "tags": ["DownloadService"],
            "summary": "A track as a file for another program.",
            "description": "\n".join(f"* `{export.name}`: {export.summary}" for export in EXPORTS.values()),
            # For programs that list the formats for users.
            "x-formats": [_format(export) for export in EXPORTS.values()],
            "parameters": [
                {"name": "track_id", "in": "path", "required": True, "schema": {"type": "string"}},
                {
                    "name": "format",
                    "in": "path",
                    "required": True,
                    "schema": {"type": "string", "enum": list(EXPORTS)},
                },
                *_option_parameters(),
            ],
            "responses": {
                "200": {"description": "The file, with a name to save it under.", "content": {"*/*": {}}},
                "400": _ERROR,
                "401": _ERROR,
                "404": {
                    "description": "No such track or format, or a part of the track is missing: the reason names it.",
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Status"}}},
                },
                "429": _ERROR,
                "default": _ERROR,
            },
        }
    }
}
