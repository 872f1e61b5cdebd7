"""Uploads over several connections. Pieces that have arrived wait in the object store until the file is complete."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, select, update

from services.common.compute.fair_limiter import TOO_MANY_WAITING
from services.common.errors import AbortedError, InvalidInputError, LimitExceededError, NotFoundError, StemTubeError
from services.common.jobs.errors import TOO_MANY_JOBS
from services.common.jobs.retry import TRANSIENT
from services.common.storage.database import Database
from services.common.storage.objects import ObjectStore
from services.common.storage.spool import Spool
from services.common.unchanged import SETTLED_SECONDS, Unchanged
from services.download.tables import Reservation, Upload
from services.download.tracks.repository import UPLOADS
from services.download.upkeep.reservations import Reservations, quota_lock, release_in

# Most bytes of an upload that wait in a temporary file, and that are lost if the process dies.
PART_BYTES = 8 * 1024 * 1024
# Each takes two or three times the memory of a part of an S3 upload.
PUTS_AT_ONCE = 2

# Takes a complete file, and returns the ids of its track and job.
Finish = Callable[[Upload, AsyncIterator[bytes]], Awaitable[tuple[str, str]]]


class Uploads:
    """Keeps users' uploads.

    Any process may receive the next piece. If two receive one at the same time, only the first can change the offset.

    Args:
        database: the library's database.
        objects: the store of the pieces.
        lifetime: how long an upload is kept after the last piece.
        reservations: reserve room for uploads.
        most_unfinished: how many unfinished uploads a user may have.
    """

    def __init__(
        self,
        database: Database,
        objects: ObjectStore,
        lifetime: timedelta,
        reservations: Reservations,
        most_unfinished: int = 1000,
    ) -> None:
        self._database = database
        self._objects = objects
        self._lifetime = lifetime
        self._reservations = reservations
        self._most_unfinished = most_unfinished
        self._puts = asyncio.Semaphore(PUTS_AT_ONCE)
        self._expired: Unchanged[str, datetime] = Unchanged()

    async def create(
        self, user_id: str, filename: str, size_bytes: int, options: dict[str, Any] | None, client_metadata: str
    ) -> Upload:
        """Begins an upload, and reserves room for it.

        Raises:
            LimitExceededError: the user has too many unfinished uploads (reason TOO_MANY_UPLOADS), or no room (reason
                QUOTA_EXCEEDED).
        """
        async with self._database.write(lock=quota_lock(user_id)) as session:
            unfinished = select(func.count()).select_from(Upload).where(*_unfinished(user_id))
            if int(await session.scalar(unfinished) or 0) >= self._most_unfinished:
                raise LimitExceededError(
                    f"You have {self._most_unfinished} unfinished uploads already: complete or delete some of them.",
                    "TOO_MANY_UPLOADS",
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
            await self._reservations.reserve_in(session, user_id, upload.id, size_bytes, lifetime=self._lifetime)
            session.add(upload)
        return upload

    async def get(self, user_id: str, upload_id: str) -> Upload:
        """Returns an upload of a user.

        Raises:
            NotFoundError: the user has no such upload, or it has expired (reason NO_SUCH_UPLOAD).
        """
        async with self._database.read() as session:
            upload = await session.get(Upload, upload_id)
        if upload is None or upload.user_id != user_id:
            raise NotFoundError("There is no such upload, or it has expired.", "NO_SUCH_UPLOAD")
        return upload

    async def append(
        self, user_id: str, upload_id: str, offset: int, chunks: AsyncIterator[bytes], finish: Finish
    ) -> Upload:
        """Adds bytes to an upload. Bytes that have arrived are kept, even if `chunks` raises an error.

        Args:
            user_id: the upload's user.
            upload_id: the upload's id.
            offset: position of the first byte.
            chunks: the bytes.
            finish: called with the complete file. If it refuses the file, the upload is deleted. After a temporary
                error, the last byte is dropped, so that the client can send it again.

        Raises:
            NotFoundError: the user has no such upload (reason NO_SUCH_UPLOAD).
            AbortedError: the upload has another offset, or another call was faster (reason OFFSET_MISMATCH).
            InvalidInputError: there are more bytes than announced (reason TOO_MANY_BYTES).
            UnavailableError: the object store is unavailable, or not the library's. The upload is kept.
            StemTubeError: raised by `finish`.
        """
        upload = await self.get(user_id, upload_id)
        _expect_offset(upload, offset)
        await self._objects.expect_right_store()
        arrived = self._objects.spool()
        try:
            async for chunk in chunks:
                if upload.offset_bytes + arrived.size + len(chunk) > upload.size_bytes:
                    raise InvalidInputError(
                        f"There are more bytes than the {upload.size_bytes} that were announced.", "TOO_MANY_BYTES"
                    )
                await arrived.add(chunk)
                if arrived.size >= PART_BYTES and upload.offset_bytes + arrived.size < upload.size_bytes:
                    part, arrived = arrived, self._objects.spool()
                    upload = await asyncio.shield(self._keep(upload, part, part.size))
        except BaseException:
            await self._keep_rest(upload, arrived)
            raise
        if upload.offset_bytes + arrived.size < upload.size_bytes:
            return await asyncio.shield(self._keep(upload, arrived, arrived.size))
        return upload if upload.track_id else await self._finish(upload, arrived, finish)

    async def delete(self, user_id: str, upload_id: str) -> None:
        """Deletes an upload with its pieces.

        Raises:
            NotFoundError: the user has no such upload (reason NO_SUCH_UPLOAD).
        """
        upload = await self.get(user_id, upload_id)
        await self._discard(upload, Upload.id == upload.id)

    async def forget_expired(self) -> None:
        """Deletes expired uploads. A sweep removes their objects.

        They are deleted only after `SETTLED_SECONDS`, so that clients can continue them after the clock has jumped.

        Raises:
            UnavailableError: the object store is unavailable, or not the library's. Clients cannot add bytes then, so
                no upload is deleted.
        """
        await self._objects.expect_right_store()
        async with self._database.read() as session:
            times = select(Upload.id, Upload.expire_time).where(Upload.expire_time <= datetime.now(UTC))
            expired = {row.id: row.expire_time for row in await session.execute(times)}
        seconds = min(self._lifetime.total_seconds(), SETTLED_SECONDS)
        for upload_id, moment in self._expired.since(expired, seconds).items():
            await self._forget(upload_id, Upload.id == upload_id, Upload.expire_time == moment)

    async def _finish(self, upload: Upload, last: Spool, finish: Finish) -> Upload:
        try:
            track_id, job_id = await finish(upload, self._whole(upload, last))
        except BaseException as error:
            if isinstance(error, StemTubeError) and not _is_temporary(error):
                # If the store became unavailable, the file could not be read, and must not be refused.
                await self._objects.expect_right_store()
                await last.clear()
                await self._discard(upload, *_at_same_offset(upload))
            else:
                await self._keep_rest(upload, last)
            raise
        await last.clear()
        done = await self._change(upload, parts=[], offset_bytes=upload.size_bytes, track_id=track_id, job_id=job_id)
        await self._objects.delete_prefix(_prefix(upload))
        return done

    async def _whole(self, upload: Upload, last: Spool) -> AsyncIterator[bytes]:
        for part in upload.parts:
            async for piece in self._objects.stream(f"{_prefix(upload)}/{part}"):
                yield piece
        async for piece in last.pieces():
            yield piece

    async def _keep_rest(self, upload: Upload, arrived: Spool) -> None:
        """Keeps the bytes that have arrived before an error, except the last byte of the file.

        Clients take an upload with all its bytes for complete, but only `finish` completes it.
        """
        size = max(0, min(arrived.size, upload.size_bytes - 1 - upload.offset_bytes))
        await asyncio.shield(self._keep(upload, arrived, size))

    async def _keep(self, upload: Upload, part: Spool, size: int) -> Upload:
        """Adds the first `size` bytes in the spool to the upload, and clears the spool.

        Raises:
            AbortedError: another call was faster (reason OFFSET_MISMATCH).
        """
        if not size:
            await part.clear()
            return upload
        # The name is random, so that of two calls at the same offset the slower one does not overwrite the piece.
        name = uuid.uuid4().hex
        try:
            async with self._puts:
                whole = size == part.size
                await self._objects.put(f"{_prefix(upload)}/{name}", part if whole else part.pieces(size))
        finally:
            await part.clear()
        try:
            return await self._change(upload, parts=[*upload.parts, name], offset_bytes=upload.offset_bytes + size)
        except AbortedError:
            await self._objects.delete(f"{_prefix(upload)}/{name}")
            raise

    async def _change(self, upload: Upload, **values: Any) -> Upload:
        async with self._database.write() as session:
            changed = await session.execute(
                update(Upload)
                .where(*_at_same_offset(upload))
                .values(expire_time=datetime.now(UTC) + self._lifetime, **values)
                .returning(Upload.id)
            )
            if changed.first() is None:
                raise _offset_mismatch("Another connection was faster, or the upload was deleted.")
            # The reservation lasts as long as the upload.
            until = datetime.now(UTC) + self._lifetime
            await session.execute(update(Reservation).where(Reservation.id == upload.id).values(expire_time=until))
        return await self.get(upload.user_id, upload.id)

    async def _discard(self, upload: Upload, *conditions: Any) -> None:
        if await self._forget(upload.id, *conditions):
            await self._objects.delete_prefix(_prefix(upload))

    async def _forget(self, upload_id: str, *conditions: Any) -> bool:
        async with self._database.write() as session:
            gone = (await session.execute(delete(Upload).where(*conditions).returning(Upload.id))).first()
            if gone is not None:
                await release_in(session, upload_id)
        return gone is not None


def _is_temporary(error: StemTubeError) -> bool:
    """Whether the same bytes may be accepted later."""
    return error.code in TRANSIENT or error.reason in (TOO_MANY_WAITING, TOO_MANY_JOBS)


def _unfinished(user_id: str) -> tuple[Any, ...]:
    return Upload.user_id == user_id, Upload.track_id == ""


def _at_same_offset(upload: Upload) -> tuple[Any, ...]:
    return Upload.id == upload.id, Upload.offset_bytes == upload.offset_bytes


def _prefix(upload: Upload) -> str:
    return f"{UPLOADS}/{upload.id}"


def _expect_offset(upload: Upload, offset: int) -> None:
    if offset != upload.offset_bytes:
        raise _offset_mismatch(
            f"The upload continues at byte {upload.offset_bytes}, not at {offset}.", offset=str(upload.offset_bytes)
        )


def _offset_mismatch(message: str, **metadata: str) -> AbortedError:
    return AbortedError(message, "OFFSET_MISMATCH", **metadata)
