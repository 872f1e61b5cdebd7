"""The RPCs that receive files: in one call, or in pieces over several connections."""

import contextlib
import hashlib
from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict

from services.common.errors import InvalidInputError, LimitExceededError, StemTubeError
from services.common.jobs.messages import timestamp
from services.common.jobs.records import JobRecord
from services.common.limits import MAX_UPLOAD_METADATA
from services.common.rpc.auth import require_user
from services.download.pipeline.admission import Admission
from services.download.pipeline.submitting import TrackWork
from services.download.pipeline.track_jobs import TrackJobs
from services.download.tables import Upload
from services.download.tracks.messages import track_job_message, track_message
from services.download.tracks.repository import TrackRepository
from services.download.tracks.text import checked_header, checked_text
from services.download.uploads.acquire import Acquirer
from services.download.uploads.client_streams import ClientStreams, chunks_of
from services.download.uploads.uploads import Uploads
from stemtube.download.v1 import upload_pb2 as pb
from stemtube.download.v1 import upload_pb2_grpc

MAX_FILENAME = 1000


class UploadService(upload_pb2_grpc.UploadServiceServicer):
    """The servicer. The contract describes each RPC and its errors.

    Args:
        uploads: keeps unfinished uploads.
        acquirer: checks and stores files.
        tracks: the tracks of all users.
        jobs: starts jobs.
        admission: checks quotas and waiting jobs.
        client_streams: limits the streams that send files.
        max_bytes: size of the largest file.
    """

    def __init__(
        self,
        uploads: Uploads,
        acquirer: Acquirer,
        tracks: TrackRepository,
        jobs: TrackJobs,
        admission: Admission,
        client_streams: ClientStreams,
        max_bytes: int,
    ) -> None:
        self._uploads = uploads
        self._acquirer = acquirer
        self._tracks = tracks
        self._jobs = jobs
        self._admission = admission
        self._client_streams = client_streams
        self._max_bytes = max_bytes

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
            async with self._jobs.claimed(user, header) as known:
                content = _Content(chunks_of(messages))
                record = known or await self._upload_track(user, header, content)
                if known:
                    await self._expect_same_content(user, header, content)
                data = await self._tracks.track_of(user, record.subject)
        return pb.UploadTrackResponse(track=track_message(data), job=track_job_message(record))

    async def _upload_track(self, user: str, header: pb.UploadHeader, content: "_Content") -> JobRecord:
        plan = await self._jobs.plan(header)

        async def noted() -> AsyncIterator[bytes]:
            async for chunk in content.chunks():
                yield chunk
            await self._jobs.note_content(user, header, content.digest)

        async with self._admission.room(user) as room:
            arriving = room.growing(noted())
            track, grant = await self._acquirer.upload(user, header.filename, arriving, room.set_size, room.id)
        work = TrackWork(track.id, plan, header.options.priority, again=False)
        return await self._jobs.submit_missing(user, work, header, grant, content.digest)

    async def _expect_same_content(self, user: str, header: pb.UploadHeader, content: "_Content") -> None:
        """Reads a file that was sent before with the same header, and checks that its bytes are the same."""
        limit = self._max_bytes
        async for _ in content.chunks():
            if content.size > limit:
                raise LimitExceededError(f"The file is larger than {limit} bytes.", "TOO_LARGE", limit=str(limit))
        await self._jobs.note_content(user, header, content.digest)

    async def CreateUpload(self, request: pb.CreateUploadRequest, _context: Any) -> pb.CreateUploadResponse:
        user = require_user().subject
        limit = self._max_bytes
        if request.size_bytes <= 0:
            raise InvalidInputError("The file is empty.", "EMPTY_FILE")
        if request.size_bytes > limit:
            raise LimitExceededError(f"The file is larger than {limit} bytes.", "TOO_LARGE", limit=str(limit))
        checked_header("metadata", request.metadata, MAX_UPLOAD_METADATA)
        checked_text("filename", request.filename, MAX_FILENAME, may_be_empty=True)
        await self._jobs.plan(_header(request.filename, _options(request)))
        await self._admission.expect_room(user, request.size_bytes)
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
                raise InvalidInputError("A stream of bytes for an upload begins with a header.", "BAD_REQUEST")
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
        """Makes a track of a complete upload. Returns the ids of track and job."""
        # The upload's id is used as the request's id, so that sending the last piece again gives the same job.
        header = _header(upload.filename, upload.options, upload.id)
        async with self._jobs.claimed(upload.user_id, header) as known:
            if known:
                return known.subject, known.id
            plan = await self._jobs.plan(header)
            await self._admission.expect_few_jobs(upload.user_id)

            async def settle(size: int) -> None:
                await self._admission.reserve(upload.user_id, upload.id, size)

            track, grant = await self._acquirer.upload(
                upload.user_id, upload.filename, content, settle, upload.id, stored=True
            )
            work = TrackWork(track.id, plan, header.options.priority, again=False)
            try:
                record = await self._jobs.submit_missing(upload.user_id, work, header, grant)
            except StemTubeError:
                # The pieces stay, and count again.
                with contextlib.suppress(LimitExceededError):
                    await settle(upload.size_bytes)
                raise
            return track.id, record.id


class _Content:
    """The bytes of a file, with their number and their SHA-256 in hex so far."""

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
