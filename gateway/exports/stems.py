"""The stems themselves as one ZIP, streamed while it is made."""

import io
import zipfile
from collections.abc import AsyncIterator, Mapping
from typing import Any

from gateway.exports.export import Archive, Export, FileType, Options, Track
from gateway.exports.track import MODEL, named_after, stems_of
from services.common.file_names import file_name
from services.common.storage.object_info import ObjectInfo
from services.common.storage.objects import ObjectStore

TYPE = FileType(".stems.zip", "application/zip")
READABLE = 0o644 << 16
"""Permissions of an entry, where ZIP has them."""


def make(track: Track, options: Options) -> Archive:
    """All stems as they are stored (FLAC), those of several models in a folder each.

    Raises:
        NotFoundError: there are none, or none of that model (reason NO_STEMS).
    """
    folder = named_after(track)
    if options["model"] or len({stem.model for stem in track.stems}) <= 1:
        return Archive(TYPE, {f"{folder}/{file_name(stem.name)}.flac": stem for stem in stems_of(track, options)})
    return Archive(
        TYPE, {f"{folder}/{file_name(stem.model)}/{file_name(stem.name)}.flac": stem for stem in track.stems}
    )


async def zipped(store: ObjectStore, entries: Mapping[str, ObjectInfo]) -> AsyncIterator[bytes]:
    """A ZIP of objects, uncompressed, in pieces; each piece is made when it is asked for.

    Args:
        store: that has the objects.
        entries: objects by their names in the ZIP.

    Raises:
        NotFoundError: an object is gone (reason NO_SUCH_OBJECT).
        UnavailableError: one has changed meanwhile, or the store does not answer.
    """
    sink = _Sink()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, info in entries.items():
            entry = zipfile.ZipInfo(name, info.last_modified.timetuple()[:6])
            entry.file_size, entry.external_attr = info.size, READABLE
            with archive.open(entry, "w") as file:
                async for piece in store.stream(info.key):
                    # A checksum at 1 GB/s or so: a piece takes a millisecond.
                    file.write(piece)
                    yield sink.take()
    yield sink.take()


class _Sink(io.RawIOBase):
    """A file to write, without positions: what was written is taken away at once."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """Keeps a copy."""
        self._pieces.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        """The bytes written since the last call."""
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


EXPORT = Export(
    name="stems",
    summary="All stems, or those of a model, as a ZIP of FLAC files.",
    make=make,
    options=(MODEL,),
)
