"""The RPCs that import tracks of another installation."""

import re
from collections.abc import AsyncIterator, Iterable
from typing import Any

from services.common.errors import InvalidInputError
from services.common.rpc.auth import require_admin
from services.download.fetching.addresses import LinkChecker
from services.download.importing.importing import ExistingTrack, Importer
from services.download.tracks.edits import checked_part
from services.download.tracks.repository import SongFacts
from services.download.tracks.text import checked_text
from services.download.uploads.acquire import Acquirer
from services.download.uploads.client_streams import ClientStreams, chunks_of
from stemtube.download.v1 import import_pb2 as pb
from stemtube.download.v1 import import_pb2_grpc

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,39}")
SHA256 = re.compile(r"[0-9a-f]{64}")
MAX_USERS = 10_000
MAX_IMPORTED_TITLE = 1000


class ImportService(import_pb2_grpc.ImportServiceServicer):
    """The servicer. The contract describes each RPC and its errors.

    Args:
        importer: adds missing tracks, stems and parts.
        acquirer: checks and stores files.
        client_streams: limits the streams that send files.
        links: checks links.
    """

    def __init__(
        self, importer: Importer, acquirer: Acquirer, client_streams: ClientStreams, links: LinkChecker
    ) -> None:
        self._importer = importer
        self._acquirer = acquirer
        self._client_streams = client_streams
        self._links = links

    async def LookUpImport(self, request: pb.LookUpImportRequest, _context: Any) -> pb.LookUpImportResponse:
        admin = require_admin().subject
        _check_users(request.user_ids)
        if request.source_url:
            url = await self._links.checked(admin, request.source_url)
            existing = await self._importer.existing(request.user_ids, url=url)
            return pb.LookUpImportResponse(tracks=_tracks(existing), has_audio=await self._importer.has_audio(url))
        if not SHA256.fullmatch(request.audio_sha256):
            raise InvalidInputError("name a link, or the SHA-256 of a file", "BAD_REQUEST")
        existing = await self._importer.existing(request.user_ids, sha256=request.audio_sha256)
        return pb.LookUpImportResponse(tracks=_tracks(existing))

    async def ImportTrack(
        self, requests: AsyncIterator[pb.ImportTrackRequest], _context: Any
    ) -> pb.ImportTrackResponse:
        admin = require_admin().subject
        async with self._client_streams.reading(admin, requests) as messages:
            header = (await _first(messages)).header
            _check_users(header.user_ids)
            checked_text("title", header.title, MAX_IMPORTED_TITLE, may_be_empty=True)
            url = await self._links.checked(admin, header.source_url) if header.source_url else ""
            existing = await self._import_track(admin, header, url, chunks_of(messages))
        return pb.ImportTrackResponse(tracks=_tracks(existing))

    async def ImportStem(self, requests: AsyncIterator[pb.ImportStemRequest], _context: Any) -> pb.ImportStemResponse:
        admin = require_admin().subject
        async with self._client_streams.reading(admin, requests) as messages:
            header = (await _first(messages)).header
            if not (NAME.fullmatch(header.model) and NAME.fullmatch(header.name)):
                raise InvalidInputError("model and name have 1 to 40 letters, digits, _, - or .", "BAD_REQUEST")
            await self._importer.duration_of(header.track_ids)
            async with self._acquirer.checked_stem(admin, chunks_of(messages)) as (facts, keys):
                await self._importer.add_stem(header.track_ids, header.model, header.name, header.position, keys, facts)
        return pb.ImportStemResponse()

    async def ImportPart(self, request: pb.ImportPartRequest, _context: Any) -> pb.ImportPartResponse:
        require_admin()
        duration = await self._importer.duration_of(request.track_ids)
        part, content = checked_part(request, duration)
        await self._importer.add_part(request.track_ids, part, content)
        return pb.ImportPartResponse()

    async def _import_track(
        self, admin: str, header: pb.ImportTrackHeader, url: str, chunks: AsyncIterator[bytes]
    ) -> list[ExistingTrack]:
        async def any_size(_size: int) -> None:
            """Ignores quotas: users keep everything that they had."""

        song = SongFacts(header.title, "")
        if url and await self._importer.has_audio(url):
            await self._importer.add_link(header.user_ids, url, song, None)
            return await self._importer.existing(header.user_ids, url=url)
        async with self._acquirer.checked(admin, chunks, any_size) as (facts, tags):
            song = SongFacts(header.title or tags["title"] or "Untitled", tags["artist"])
            if not url:
                return await self._importer.add_upload(header.user_ids, song, facts)
            await self._importer.add_link(header.user_ids, url, song, facts)
        return await self._importer.existing(header.user_ids, url=url)


async def _first(requests: AsyncIterator[Any]) -> Any:
    first = await anext(requests, None)
    if first is None or first.WhichOneof("content") != "header":
        raise InvalidInputError("An import begins with its header.", "BAD_REQUEST")
    return first


def _check_users(user_ids: Iterable[str]) -> None:
    if not 0 < len(set(user_ids)) <= MAX_USERS or not all(user_ids):
        raise InvalidInputError(f"name 1 to {MAX_USERS} users", "BAD_REQUEST")


def _tracks(existing: list[ExistingTrack]) -> list[pb.ImportedTrack]:
    return [
        pb.ImportedTrack(
            user_id=found.user_id,
            track_id=found.track.id,
            duration_seconds=found.track.duration_seconds,
            parts=found.parts,
            stems=found.stems,
        )
        for found in existing
    ]
