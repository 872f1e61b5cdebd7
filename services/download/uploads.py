"""Uploads that may take several connections: what has arrived waits in the object store until all is there."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, select, update

from services.common.database import Database
from services.common.errors import AbortedError, InvalidInputError, LimitExceededError, NotFoundError, StemTubeError
from services.common.jobs import TRANSIENT
from services.common.storage import ObjectStore
from services.download.store import UPLOADS
from services.download.tables import Upload

# What a dying process loses at most, and holds in memory for each upload.
PART_BYTES = 8 * 1024 * 1024
MAX_UNFINISHED = 1000

# Takes a whole file; the ids of its track and job.
Finish = Callable[[Upload, AsyncIterator[bytes]], Awaitable[tuple[str, str]]]


class Uploads:
    """Keeps uploads, each for its own user.

    Any process may take the next piece: that the offset is still the one it began at decides who was first.

    Args:
        database: the library's.
        objects: where the pieces wait.
        lifetime: an upload to which nothing was added for so long is forgotten.
    """

    def __init__(self, database: Database, objects: ObjectStore, lifetime: timedelta) -> None:
        self._database = database
        self._objects = objects
        self._lifetime = lifetime

    async def create(
        self, user_id: str, filename: str, size_bytes: int, options: dict[str, Any] | None, client_metadata: str
    ) -> Upload:
        """Begins an upload.

        Raises:
            LimitExceededError: the user has too many unfinished ones (reason TOO_MANY_UPLOADS).
        """
        async with self._database.write(lock=f"uploads {user_id}") as session:
            unfinished = select(func.count()).select_from(Upload).where(*_unfinished(user_id))
            if int(await session.scalar(unfinished) or 0) >= MAX_UNFINISHED:
                raise LimitExceededError(
                    f"There are {MAX_UNFINISHED} unfinished uploads already: end some of them.", "TOO_MANY_UPLOADS"
                )
            upload = Upload(
                id=uuid.uuid4().hex,
                user_id=user_id,
                filename=filename,
                options=options,
                client_metadata=client_metadata,
                size_bytes=size_bytes,
                offset_bytes=0,
                parts=[],
                track_id="",
                job_id="",
                expire_time=datetime.now(UTC) + self._lifetime,
            )
            session.add(upload)
        return upload

    async def get(self, user_id: str, upload_id: str) -> Upload:
        """An upload of a user.

        Raises:
            NotFoundError: there is none, or not any more (reason NO_SUCH_UPLOAD).
        """
        async with self._database.read() as session:
            upload = await session.get(Upload, upload_id)
        if upload is None or upload.user_id != user_id or upload.expire_time <= datetime.now(UTC):
            raise NotFoundError("There is no such upload, or it has expired.", "NO_SUCH_UPLOAD")
        return upload

    async def reserved_bytes(self, user_id: str) -> int:
        """What the user's unfinished uploads will take."""
        async with self._database.read() as session:
            sizes = select(func.coalesce(func.sum(Upload.size_bytes), 0)).where(*_unfinished(user_id))
            return int(await session.scalar(sizes) or 0)

    async def append(
        self, user_id: str, upload_id: str, offset: int, chunks: AsyncIterator[bytes], finish: Finish
    ) -> Upload:
        """Takes further bytes; what has arrived stays, however `chunks` end.

        Args:
            user_id: whose upload it is.
            upload_id: which one.
            offset: of the first byte.
            chunks: the bytes.
            finish: is given the file once it is whole. What it refuses for good is forgotten; after another error the
                last byte counts as not arrived.

        Raises:
            NotFoundError: no such upload (reason NO_SUCH_UPLOAD).
            AbortedError: it has another offset, or another call was faster (reason OFFSET_MISMATCH).
            InvalidInputError: more bytes than announced (reason TOO_MANY_BYTES).
            UnavailableError: the store is away or not the library's; what has arrived waits for it.
            StemTubeError: whatever `finish` raises.
        """
        upload = await self.get(user_id, upload_id)
        _expect_offset(upload, offset)
        await self._objects.expect_right_store()
        arrived = bytearray()
        try:
            async for chunk in chunks:
                if upload.offset_bytes + len(arrived) + len(chunk) > upload.size_bytes:
                    raise InvalidInputError(
                        f"More bytes come than the {upload.size_bytes} that were announced.", "TOO_MANY_BYTES"
                    )
                arrived += chunk
                if len(arrived) >= PART_BYTES and upload.offset_bytes + len(arrived) < upload.size_bytes:
                    part, arrived = bytes(arrived), bytearray()
                    upload = await asyncio.shield(self._keep(upload, part))
        except BaseException:
            await self._keep_rest(upload, arrived)
            raise
        if upload.offset_bytes + len(arrived) < upload.size_bytes:
            return await asyncio.shield(self._keep(upload, bytes(arrived))) if arrived else upload
        return upload if upload.track_id else await self._finish(upload, bytes(arrived), finish)

    async def delete(self, user_id: str, upload_id: str) -> None:
        """Forgets an upload with all that has arrived.

        Raises:
            NotFoundError: there is none (reason NO_SUCH_UPLOAD).
        """
        upload = await self.get(user_id, upload_id)
        await self._discard(upload, Upload.id == upload.id)

    async def forget_expired(self) -> None:
        """Forgets uploads to which nothing was added for long; a sweep takes their objects.

        Raises:
            UnavailableError: the store is away or not the library's: nothing could be added.
        """
        await self._objects.expect_right_store()
        async with self._database.write() as session:
            await session.execute(delete(Upload).where(Upload.expire_time <= datetime.now(UTC)))

    async def _finish(self, upload: Upload, last: bytes, finish: Finish) -> Upload:
        try:
            track_id, job_id = await finish(upload, self._whole(upload, last))
        except BaseException as error:
            if isinstance(error, StemTubeError) and error.code not in TRANSIENT:
                # In a store that went away no file can be read; that is not the file's fault.
                await self._objects.expect_right_store()
                await self._discard(upload, *_as_it_was(upload))
            else:
                await self._keep_rest(upload, last)
            raise
        done = await self._change(upload, parts=[], offset_bytes=upload.size_bytes, track_id=track_id, job_id=job_id)
        await self._objects.delete_prefix(_prefix(upload))
        return done

    async def _whole(self, upload: Upload, last: bytes) -> AsyncIterator[bytes]:
        for part in upload.parts:
            async for piece in self._objects.stream(f"{_prefix(upload)}/{part}"):
                yield piece
        yield last

    async def _keep_rest(self, upload: Upload, arrived: bytes | bytearray) -> None:
        """Keeps what has arrived when it does not go on.

        Never the last byte: clients take an upload with all bytes for a track, and it is the last one that makes it so.
        """
        if part := bytes(arrived[: upload.size_bytes - 1 - upload.offset_bytes]):
            await asyncio.shield(self._keep(upload, part))

    async def _keep(self, upload: Upload, part: bytes) -> Upload:
        """Adds what has arrived, unless another call did so first."""
        # Not named after the offset: of two calls that race, the slower one must not replace what the faster one kept.
        name = uuid.uuid4().hex
        await self._objects.put(f"{_prefix(upload)}/{name}", part)
        try:
            return await self._change(upload, parts=[*upload.parts, name], offset_bytes=upload.offset_bytes + len(part))
        except AbortedError:
            await self._objects.delete(f"{_prefix(upload)}/{name}")
            raise

    async def _change(self, upload: Upload, **values: Any) -> Upload:
        async with self._database.write() as session:
            changed = await session.execute(
                update(Upload)
                .where(*_as_it_was(upload))
                .values(expire_time=datetime.now(UTC) + self._lifetime, **values)
                .returning(Upload.id)
            )
            if changed.first() is None:
                raise _offset_mismatch("Another connection was faster, or the upload has been ended.")
        return await self.get(upload.user_id, upload.id)

    async def _discard(self, upload: Upload, *conditions: Any) -> None:
        async with self._database.write() as session:
            gone = (await session.execute(delete(Upload).where(*conditions).returning(Upload.id))).first()
        if gone is not None:
            await self._objects.delete_prefix(_prefix(upload))


def _unfinished(user_id: str) -> tuple[Any, ...]:
    return Upload.user_id == user_id, Upload.track_id == "", Upload.expire_time > datetime.now(UTC)


def _as_it_was(upload: Upload) -> tuple[Any, ...]:
    return Upload.id == upload.id, Upload.offset_bytes == upload.offset_bytes


def _prefix(upload: Upload) -> str:
    return f"{UPLOADS}/{upload.id}"


def _expect_offset(upload: Upload, offset: int) -> None:
    if offset != upload.offset_bytes:
        raise _offset_mismatch(
            f"The upload goes on at byte {upload.offset_bytes}, not at {offset}.", offset=str(upload.offset_bytes)
        )


def _offset_mismatch(message: str, **metadata: str) -> AbortedError:
    return AbortedError(message, "OFFSET_MISMATCH", **metadata)
