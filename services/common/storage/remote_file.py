"""A remote object as a file."""

import io
import os
from typing import TYPE_CHECKING

import obstore
from obstore.store import LocalStore, S3Store

if TYPE_CHECKING:
    pass

from services.common.storage.object_info import ObjectInfo, range_options, storage_errors


class RemoteFile(io.RawIOBase):
    """A remote object as an unbuffered file, one range request per read."""

    def __init__(self, store: LocalStore | S3Store, info: ObjectInfo) -> None:
        self._remote = store
        self._info = info
        self._position = 0

    def readable(self) -> bool:
        """Whether it can be read."""
        return True

    def seekable(self) -> bool:
        """Whether its position can be set."""
        return True

    def tell(self) -> int:
        """The position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Sets the position; returns it.

        Raises:
            OSError: it would be before the start.
        """
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._info.size}[whence]
        if base + offset < 0:
            raise OSError("cannot seek before the start of an object")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]
        """Reads into a buffer; returns the number of bytes, 0 at the end.

        Raises:
            UnavailableError: the object was replaced (reason OBJECT_CHANGED), or the store does not answer.
        """
        end = min(self._position + len(buffer), self._info.size)
        if end <= self._position:
            return 0
        with storage_errors(self._info.key):
            result = obstore.get(self._remote, self._info.key, options=range_options(self._info, self._position, end))
            data = bytes(result.bytes())
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
