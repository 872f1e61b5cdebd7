"""The stems as one ZIP, sent while it is made."""

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
"""Permissions of an entry, in ZIP's external attributes."""


def make(track: Track, options: Options) -> Archive:
    """Lists all stored stems (FLAC); if there are several models, each has a folder.

    Raises:
        NotFoundError: there are no stems, or none of that model (reason NO_STEMS).
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
        store: of the objects.
        entries: objects by their names in the ZIP.

    Raises:
        NotFoundError: an object is gone (reason NO_SUCH_OBJECT).
        UnavailableError: an object has changed meanwhile, or the store does not answer.
    """
    sink = _Sink()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, info in entries.items():
            entry = zipfile.ZipInfo(name, info.last_modified.timetuple()[:6])
            entry.file_size, entry.external_attr = info.size, READABLE
            with archive.open(entry, "w") as file:
                async for piece in store.stream(info.key):
                    # The checksum runs at about 1 GB/s, so a piece takes a millisecond.
                    file.write(piece)
                    yield sink.take()
    yield sink.take()


class _Sink(io.RawIOBase):
    """A file to write, without positions; written bytes are taken out at once."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, data: Any) -> int:
        """Keeps a copy of the data."""
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
