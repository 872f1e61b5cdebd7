"""The RPCs that bring files: in one call, or in pieces that survive broken connections."""

import hashlib
import uuid
from abc import abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict

from services.common.errors import InvalidInputError, LimitExceededError
from services.common.jobs.messages import timestamp
from services.common.jobs.queue import JobQueue
from services.common.jobs.records import JobRecord
from services.common.jobs.requests import request_digest
from services.common.limits import MAX_UPLOAD_METADATA
from services.common.rpc.auth import require_user
from services.download.config import DownloadSettings
from services.download.pipeline.plan import Plan
from services.download.tables import Upload
from services.download.tracks.messages import track_job_message
from services.download.tracks.text import checked_header, checked_text
from services.download.upkeep.usage import Usage
from services.download.uploads.acquire import Acquirer
from services.download.uploads.client_streams import ClientStreams
from services.download.uploads.uploads import Uploads
from stemtube.download.v1 import download_pb2 as pb

MAX_FILENAME = 1000


class UploadRpcs:
    """Part of the servicer."""

    _settings: DownloadSettings
    _acquirer: Acquirer
    _usage: Usage
    _uploads: Uploads
    _client_streams: ClientStreams
    _jobs: JobQueue

    async def UploadTrack(
        self, requests: AsyncIterator[pb.UploadTrackRequest], _context: Any
    ) -> pb.UploadTrackResponse:
        user = require_user().subject
        async with self._client_streams.reading(user, requests) as messages:
            first = await anext(messages, None)
            if first is None or first.WhichOneof("content") != "header":
                raise InvalidInputError("An upload begins with its header.", "BAD_REQUEST")
            header = first.header
            checked_text("filename", header.filename, MAX_FILENAME, may_be_empty=True)
            async with self._claimed(user, header) as known:
                content = _Content(chunks_of(messages))
                record = known or await self._upload_track(user, header, content)
                if known:
                    await self._expect_same_content(user, header, content)
                message = await self._message(user, record.subject)
        return pb.UploadTrackResponse(track=message, job=track_job_message(record))

    async def _upload_track(self, user: str, header: pb.UploadHeader, content: "_Content") -> JobRecord:
        plan = await self._plan(header)
        await self._expect_room(user)

        async def noted() -> AsyncIterator[bytes]:
            async for chunk in content.chunks():
                yield chunk
            if header.request_id:
                await self._note_content(user, header, content)

        async with self._usage.held(user) as room:
            arriving = room.growing(noted())
            track, _new = await self._acquirer.upload(user, header.filename, arriving, room.settle, room.id)
        return await self._start(user, track.id, plan, header, content_digest=content.digest)

    async def _expect_same_content(self, user: str, header: pb.UploadHeader, content: "_Content") -> None:
        """Reads a file that has come before with the same header, and keeps nothing of it."""
        limit = self._settings.limit.max_bytes
        async for _ in content.chunks():
            if content.size > limit:
                raise LimitExceededError(f"The file is larger than {limit} bytes.", "TOO_LARGE", limit=str(limit))
        await self._note_content(user, header, content)

    async def _note_content(self, user: str, header: pb.UploadHeader, content: "_Content") -> None:
        await self._jobs.add_content(own_request(user, header), request_digest(header), content.digest)

    async def CreateUpload(self, request: pb.CreateUploadRequest, _context: Any) -> pb.CreateUploadResponse:
        user = require_user().subject
        limit = self._settings.limit.max_bytes
        if request.size_bytes <= 0:
            raise InvalidInputError("The file is empty.", "EMPTY_FILE")
        if request.size_bytes > limit:
            raise LimitExceededError(f"The file is larger than {limit} bytes.", "TOO_LARGE", limit=str(limit))
        checked_header("metadata", request.metadata, MAX_UPLOAD_METADATA)
        checked_text("filename", request.filename, MAX_FILENAME, may_be_empty=True)
        await self._plan(_header(request.filename, _options(request)))
        await self._expect_room(user, request.size_bytes)
        upload = await self._uploads.create(
            user, request.filename, request.size_bytes, _options(request), request.metadata
        )
        return pb.CreateUploadResponse(upload=_message(upload))

    async def AppendUpload(
        self, requests: AsyncIterator[pb.AppendUploadRequest], _context: Any
    ) -> pb.AppendUploadResponse:
        user = require_user().subject
        async with self._client_streams.reading(user, requests) as messages:
            first = await anext(messages, None)
            if first is None or first.WhichOneof("content") != "header":
                raise InvalidInputError("What is added to an upload begins with its header.", "BAD_REQUEST")
            upload = await self._uploads.append(
                user, first.header.upload_id, first.header.offset, chunks_of(messages), self._finish
            )
        return pb.AppendUploadResponse(upload=_message(upload))

    async def GetUpload(self, request: pb.GetUploadRequest, _context: Any) -> pb.GetUploadResponse:
        return pb.GetUploadResponse(upload=_message(await self._uploads.get(require_user().subject, request.upload_id)))

    async def DeleteUpload(self, request: pb.DeleteUploadRequest, _context: Any) -> pb.DeleteUploadResponse:
        await self._uploads.delete(require_user().subject, request.upload_id)
        return pb.DeleteUploadResponse()

    async def _finish(self, upload: Upload, content: AsyncIterator[bytes]) -> tuple[str, str]:
        """Makes a track of an upload that is whole; the ids of track and job."""
        # The upload's id as the request's: a piece that is sent again gives the same job.
        header = _header(upload.filename, upload.options, upload.id)
        async with self._claimed(upload.user_id, header) as known:
            if known:
                return known.subject, known.id
            plan = await self._plan(header)

            async def settle(size: int) -> None:
                await self._usage.reservations.reserve(upload.user_id, upload.id, size)

            track, _new = await self._acquirer.upload(
                upload.user_id, upload.filename, content, settle, upload.id, stored=True
            )
            record = await self._start(upload.user_id, track.id, plan, header)
            return track.id, record.id

    @abstractmethod
    async def _plan(self, request: Any) -> Plan: ...

    @abstractmethod
    async def _expect_room(self, user: str, size_bytes: int = 0) -> None: ...

    @abstractmethod
    def _claimed(self, user: str, request: Any) -> AbstractAsyncContextManager[JobRecord | None]: ...

    @abstractmethod
    async def _start(
        self, user: str, track_id: str, plan: Plan, request: Any, *, content_digest: str = ""
    ) -> JobRecord: ...

    @abstractmethod
    async def _message(self, user: str, track_id: str) -> pb.Track: ...


class _Content:
    """The bytes of a file as they come, with their number and their SHA-256 in hex so far."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._hash = hashlib.sha256()
        self.size = 0

    async def chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self._chunks:
            self._hash.update(chunk)
            self.size += len(chunk)
            yield chunk

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


def own_request(user: str, request: Any) -> str:
    """A request's id as the queue keeps it: ids of one user are nothing to another. A random one unless it has one."""
    return f"{user}:{request.request_id or uuid.uuid4().hex}"


def _options(request: pb.CreateUploadRequest) -> dict[str, Any] | None:
    return MessageToDict(request.options) if request.HasField("options") else None


def _header(filename: str, options: dict[str, Any] | None, request_id: str = "") -> pb.UploadHeader:
    header = pb.UploadHeader(filename=filename, request_id=request_id)
    if options is not None:
        ParseDict(options, header.options)
        header.options.SetInParent()
    return header


def _message(upload: Upload) -> pb.Upload:
    return pb.Upload(
        id=upload.id,
        filename=upload.filename,
        size_bytes=upload.size_bytes,
        offset=upload.offset_bytes,
        metadata=upload.client_metadata,
        expire_time=timestamp(upload.expire_time.timestamp()),
        track_id=upload.track_id,
        job_id=upload.job_id,
    )


async def chunks_of(requests: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    """The bytes that follow the header of a stream of requests.

    Raises:
        InvalidInputError: something else follows (reason BAD_REQUEST).
    """
    async for request in requests:
        if request.WhichOneof("content") != "chunk":
            raise InvalidInputError("After its header an upload has chunks only.", "BAD_REQUEST")
        yield request.chunk
