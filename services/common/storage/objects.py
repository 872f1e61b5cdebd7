"""Object storage: one API for a local directory and any S3-compatible bucket, based on the package `obstore`.

Objects are opaque bytes under a relative key. They are written whole or not at all, and a reader never sees a partly
written one: a local file appears when it is renamed, an S3 object when its upload is completed.

The async methods never block the event loop. `open` is for worker threads, which need a file object.
"""

import asyncio
import contextlib
import io
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from services.common.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

from services.common.config import Settings
from services.common.storage.object_info import (
    ObjectInfo,
    check_key,
    info_of,
    partials_below,
    range_options,
    storage_errors,
    unavailable,
)
from services.common.storage.pieces import CHUNK_BYTES, pieces_of_bytes, pieces_of_file
from services.common.storage.remote_file import RemoteFile
from services.common.storage.spool import Spool
from services.common.storage.writer import PART_BYTES, ObjectWriter

# Keeps an upload to S3 below 25 MiB of memory.
_PARTS_IN_FLIGHT = 2
_DELETE_BATCH = 500
_REQUEST_TIMEOUT = timedelta(minutes=2)
_RETRY_TIMEOUT = timedelta(seconds=30)
T = TypeVar("T")


class ObjectStore:
    """A directory, or a bucket with a prefix, that contains objects; made by `from_url`, safe to share between threads.

    It is opened at first use, so a process may start while the store is away.
    """

    def __init__(self, opener: Callable[[], LocalStore | S3Store], root: Path | None = None) -> None:
        self._opener = opener
        self._root = root
        self._opened: LocalStore | S3Store | None = None

    @property
    def _store(self) -> LocalStore | S3Store:
        if self._opened is None:
            try:
                self._opened = self._opener()
            except (BaseError, OSError) as error:
                raise unavailable() from error
        return self._opened

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        endpoint: str | None = None,
        region: str | None = None,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        session_token: str | None = None,
        virtual_hosted_style: bool = False,
    ) -> "ObjectStore":
        """The store with this URL.

        Args:
            url: `s3://bucket/prefix`, `file:///absolute/directory`, or a plain directory path (made if missing).
            endpoint: URL of an S3-compatible server, `https://` or `http://`; default: AWS.
            region: of the bucket.
            access_key_id: without keys, the usual AWS environment variables and instance roles are used.
            secret_access_key: for `access_key_id`.
            session_token: of temporary keys.
            virtual_hosted_style: put the bucket into the host name instead of the path.

        Raises:
            InvalidInputError: reason BAD_STORAGE_URL.
        """
        parts = urlsplit(url)
        if parts.scheme in ("", "file"):
            if parts.netloc or not parts.path:
                raise InvalidInputError(f"not a directory for the object storage: {url!r}", "BAD_STORAGE_URL")
            root = Path(unquote(parts.path) if parts.scheme else url).expanduser().absolute()
            return cls(lambda: _open_directory(root), root)
        if parts.scheme != "s3" or not parts.netloc:
            raise InvalidInputError(f"not a URL of an object storage: {url!r}", "BAD_STORAGE_URL")
        config: S3Config = {"bucket": parts.netloc, "virtual_hosted_style_request": virtual_hosted_style}
        if endpoint:
            config["endpoint"] = endpoint
        if region:
            config["region"] = region
        if access_key_id:
            config["access_key_id"] = access_key_id
        if secret_access_key:
            config["secret_access_key"] = secret_access_key
        if session_token:
            config["session_token"] = session_token
        client: ClientConfig = {
            "allow_http": bool(endpoint and endpoint.startswith("http://")),
            "timeout": _REQUEST_TIMEOUT,
        }
        retry: RetryConfig = {"max_retries": 4, "retry_timeout": _RETRY_TIMEOUT}
        prefix = parts.path.strip("/") or None
        return cls(lambda: S3Store(prefix=prefix, config=config, client_options=client, retry_config=retry))

    async def expect_right_store(self) -> None:
        """Raises an error if this is not the store of the library's records; this class accepts every store.

        Raises:
            UnavailableError: the reason says what is wrong.
        """

    async def put(
        self, key: str, data: bytes | Path | Spool | AsyncIterator[bytes], content_type: str | None = None
    ) -> int:
        """Stores an object and replaces an older one; a large object is sent in parts and never held in memory.

        If `data` raises, or this call is cancelled, the sent parts are discarded and an older object stays.

        Args:
            key: of the object.
            data: its bytes, a local file with them, or an iterator over pieces of them. A spool of this store is linked
                if possible, so that its bytes are not written again; afterwards it can only be cleared.
            content_type: MIME type; only S3 keeps it.

        Returns:
            The object's size in bytes.

        Raises:
            InvalidInputError: reason BAD_KEY.
            UnavailableError: the storage does not take it.
            Exception: any that `data` raises.
        """
        check_key(key)
        if isinstance(data, Spool):
            return await self._put_spool(key, data, content_type)
        if isinstance(data, bytes):
            data = pieces_of_bytes(data)
        if isinstance(data, Path):
            async with contextlib.aclosing(pieces_of_file(data)) as pieces:
                return await self._put_pieces(key, pieces, content_type)
        return await self._put_pieces(key, data, content_type)

    async def _put_spool(self, key: str, spool: Spool, content_type: str | None) -> int:
        if self._root is not None and spool.is_linkable:
            # Fails if there is such an object already, or if it is on another file system.
            with contextlib.suppress(OSError):
                await spool.link(self._root / key)
                return spool.size
        return await self._put_pieces(key, spool.pieces(), content_type)

    async def _put_pieces(self, key: str, pieces: AsyncIterator[bytes], content_type: str | None) -> int:
        async with self.writer(key, content_type) as writer:
            async for piece in pieces:
                await writer.write(piece)
        return writer.size

    @contextlib.asynccontextmanager
    async def writer(
        self, key: str, content_type: str | None = None, parts_in_flight: int = _PARTS_IN_FLIGHT
    ) -> AsyncIterator[ObjectWriter]:
        """Writes an object, which appears at the end of the block, or never if the block raises.

        Args:
            key: of the object.
            content_type: MIME type; only S3 keeps it.
            parts_in_flight: parts of PART_BYTES that may be on their way to S3 when the next byte is written.

        Raises:
            InvalidInputError: reason BAD_KEY.
            UnavailableError: the storage does not take it.
        """
        check_key(key)
        attributes = {"Content-Type": content_type} if content_type and self._root is None else None
        # A directory has no minimum size of parts.
        part = PART_BYTES if self._root is None else CHUNK_BYTES
        file = obstore.open_writer_async(
            self._store, key, attributes=attributes, buffer_size=part, max_concurrency=parts_in_flight
        )
        writer = ObjectWriter(key, file, part)
        try:
            yield writer
        except BaseException as error:
            with contextlib.suppress(BaseError, OSError):
                await file.__aexit__(type(error), error, error.__traceback__)
            await asyncio.to_thread(self._remove_empty_directories, key)
            raise
        with storage_errors(key):
            await file.close()

    def spool(self) -> Spool:
        """A place for bytes that are to be `put`."""
        return Spool(self._root)

    async def get(self, key: str) -> bytes:
        """The whole object; for small ones.

        Raises:
            NotFoundError: reason NO_SUCH_OBJECT.
        """
        check_key(key)
        return await self._found(lambda: self._get(key))

    async def _get(self, key: str) -> bytes:
        with storage_errors(key):
            result = await obstore.get_async(self._store, key)
            return bytes(await result.bytes_async())

    async def _found(self, look: Callable[[], Awaitable[T]]) -> T:
        """Runs a look-up; a subclass may treat a missing object differently."""
        return await look()

    def _found_now(self, look: Callable[[], T]) -> T:
        """As `_found`, for synchronous look-ups in worker threads."""
        return look()

    async def stream(
        self, key: str, start: int = 0, length: int | None = None, chunk: int = CHUNK_BYTES
    ) -> AsyncIterator[bytes]:
        """The object's bytes in pieces of `chunk` bytes, each fetched when it is asked for.

        A slow consumer holds no connection open and a dropped connection costs one piece.

        Args:
            key: of the object.
            start: first byte.
            length: number of bytes; None for all up to the end. Bytes beyond the end are left out.
            chunk: bytes per piece.

        Raises:
            NotFoundError: reason NO_SUCH_OBJECT.
            InvalidInputError: reason BAD_RANGE for negative numbers.
            UnavailableError: reason OBJECT_CHANGED if the object is replaced meanwhile.
        """
        if start < 0 or chunk < 1 or (length is not None and length < 0):
            raise InvalidInputError("a range of an object must not be negative", "BAD_RANGE")
        info = await self.head(key)
        end = info.size if length is None else min(info.size, start + length)
        for position in range(start, end, chunk):
            yield await self._found(partial(self._get_range, info, position, min(position + chunk, end)))

    async def _get_range(self, info: ObjectInfo, start: int, end: int) -> bytes:
        with storage_errors(info.key):
            result = await obstore.get_async(self._store, info.key, options=range_options(info, start, end))
            return bytes(await result.bytes_async())

    async def head(self, key: str) -> ObjectInfo:
        """Size, entity tag and time of an object.

        Raises:
            NotFoundError: reason NO_SUCH_OBJECT.
        """
        check_key(key)
        return await self._found(lambda: self._head(key))

    async def _head(self, key: str) -> ObjectInfo:
        with storage_errors(key):
            return info_of(await obstore.head_async(self._store, key))

    async def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        try:
            await self.head(key)
        except NotFoundError:
            return False
        return True

    async def list(self, prefix: str | None = None) -> AsyncIterator[ObjectInfo]:
        """All objects below a prefix (whole segments: `a/b` finds `a/b/c`, not `a/bc`), in no particular order."""
        if prefix is not None:
            check_key(prefix)
        with storage_errors(prefix or ""):
            async for batch in obstore.list(self._store, prefix=prefix):
                for meta in batch:
                    yield info_of(meta)

    async def partials(self, prefix: str) -> Sequence[ObjectInfo]:
        """Files of unfinished writes below a prefix, of dead processes and of running ones.

        They are not objects, and `list` does not show them. A bucket has none: its own rules end such uploads.
        """
        return await asyncio.to_thread(partials_below, self._root, prefix) if self._root else []

    async def delete_partial(self, partial: ObjectInfo) -> None:
        """Deletes the file of an unfinished write, one of `partials`."""
        if self._root:
            await asyncio.to_thread((self._root / partial.key).unlink, missing_ok=True)

    async def copy(self, source: str, destination: str) -> None:
        """Copies an object within the store, without passing its bytes through this process.

        Raises:
            NotFoundError: reason NO_SUCH_OBJECT.
        """
        check_key(source)
        check_key(destination)
        await self._found(lambda: self._copy(source, destination))

    async def _copy(self, source: str, destination: str) -> None:
        with storage_errors(source):
            await obstore.copy_async(self._store, source, destination)

    async def delete(self, key: str) -> None:
        """Deletes an object; it is not an error if there is none."""
        check_key(key)
        with contextlib.suppress(NotFoundError), storage_errors(key):
            await obstore.delete_async(self._store, key)

    async def delete_prefix(self, prefix: str) -> int:
        """Deletes all objects below a prefix; returns how many there were."""
        keys = [info.key async for info in self.list(prefix)]
        for first in range(0, len(keys), _DELETE_BATCH):
            batch = keys[first : first + _DELETE_BATCH]
            try:
                with storage_errors(prefix):
                    await obstore.delete_async(self._store, batch)
            except NotFoundError:
                # Another process deletes here too; in a directory, obstore stops at the first missing file.
                for key in batch:
                    await self.delete(key)
        if self._root is not None:
            # A killed process can leave parts of an upload, which no listing shows.
            await asyncio.to_thread(shutil.rmtree, self._root / prefix, ignore_errors=True)
        return len(keys)

    def open(self, key: str) -> BinaryIO:
        """Opens the object as a seekable binary file for reading. Blocks, so use it only in worker threads.

        In a directory this is the file itself; on S3 it reads ahead in pieces of 1 MiB.

        Raises:
            NotFoundError: reason NO_SUCH_OBJECT.
        """
        check_key(key)
        return self._found_now(lambda: self._open(key))

    def _open(self, key: str) -> BinaryIO:
        with storage_errors(key):
            if self._root is not None:
                return (self._root / key).open("rb")
            info = info_of(obstore.head(self._store, key))
        return io.BufferedReader(RemoteFile(self._store, info), CHUNK_BYTES)

    def _remove_empty_directories(self, key: str) -> None:
        """Removes the empty directories that a failed write of an object has left."""
        if self._root is None:
            return
        directory = (self._root / key).parent
        while directory != self._root:
            try:
                directory.rmdir()
            except OSError:
                return
            directory = directory.parent


def _open_directory(root: Path) -> LocalStore:
    root.mkdir(parents=True, exist_ok=True)
    return LocalStore(prefix=root, automatic_cleanup=True)


def open_store(settings: Settings) -> ObjectStore:
    """The object store that the settings name; it need not be there yet.

    Raises:
        InvalidInputError: reason BAD_STORAGE_URL.
    """
    storage = settings.storage
    return ObjectStore.from_url(
        settings.storage_url,
        endpoint=storage.endpoint or None,
        region=storage.region or None,
        access_key_id=storage.access_key.get_secret_value() or None,
        secret_access_key=storage.secret_key.get_secret_value() or None,
    )
