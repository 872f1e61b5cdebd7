"""Writing an object piece by piece."""

from typing import TYPE_CHECKING

from services.common.storage.object_info import storage_errors

if TYPE_CHECKING:
    from obstore import AsyncWritableFile

# S3 requires parts of at least 5 MiB; two in flight keep an upload below 25 MiB of memory.
PART_BYTES = 8 * 1024 * 1024


class ObjectWriter:
    """An object that is being written, see `ObjectStore.writer`.

    Args:
        key: of the object.
        file: obstore's writer, which sends parts of `part_bytes`.
        part_bytes: size of the parts.

    Attributes:
        size: bytes written so far.
    """

    def __init__(self, key: str, file: "AsyncWritableFile", part_bytes: int) -> None:
        self._key = key
        self._file = file
        self._part_bytes = part_bytes
        self.size = 0

    async def write(self, piece: bytes) -> None:
        """Adds bytes at the end. Waits while too many parts are on their way.

        Raises:
            UnavailableError: the storage does not take them.
        """
        # obstore waits for parts in flight before it accepts a piece, even if the piece does not complete a part.
        rest = memoryview(piece)
        while rest:
            to_boundary = self._part_bytes - self.size % self._part_bytes
            with storage_errors(self._key):
                await self._file.write(rest[:to_boundary])
            self.size += len(rest[:to_boundary])
            rest = rest[to_boundary:]
