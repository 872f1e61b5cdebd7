"""`stemtube admin backup`: copies the databases and the objects of a running installation to a folder.

    FOLDER/databases/NAME    a copy of each service's database
    FOLDER/objects/KEY       each object
    FOLDER/objects.jsonl     a line per object: key, size, sha256
    FOLDER/backup.json       contents and checksums; written last, so a folder without it is not a backup

If a database is damaged, the copied files are removed and there is no backup. A damaged original is kept, because it
may be the last copy, and reported; a restore never replaces a good original by it.

The object store must be the library's, at the start and at the end. Otherwise the backup could be of another bucket, or
of the empty folder of a volume that is not mounted.

Databases come first. Songs added meanwhile then have objects without a record in the backup, which a sweep removes;
in the other order there would be records without an object. Songs deleted for good meanwhile are the one case in
which an object is missing; it is told.
"""

import asyncio
import hashlib
import json
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from cli.backup.databases import ServiceDatabase, service_database
from cli.backup.library_store import expect_library_store
from cli.local.suite import SERVICES, ServicePlace, SuiteSettings
from services.common.errors import NotFoundError, PreconditionError, StemTubeError, UnavailableError
from services.common.storage.marked_store import open_marked_store
from services.common.storage.object_info import ObjectInfo
from services.common.storage.objects import ObjectStore

FORMAT = 1
ABOUT, OBJECT_LIST, DATABASES, OBJECTS = "backup.json", "objects.jsonl", "databases", "objects"
ORIGINALS = "originals"
LIBRARY = "download"
"""The service whose database knows the object store."""
AT_ONCE = 4
TRIES = 3
CHUNK_BYTES = 1024 * 1024

_DIGEST = re.compile("[0-9a-f]{64}")

T = TypeVar("T")
ShowProgress = Callable[[str, int, int], None]
"""Called with the current item, the bytes done, and their total (0: unknown)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a backup: its name (a service's name or an object's key), size in bytes, SHA-256."""

    name: str
    size: int
    sha256: str

    @property
    def damaged(self) -> bool:
        """Whether it is a damaged original; the name of an original is the SHA-256 of its bytes."""
        folder, _, digest = self.name.partition("/")
        return folder == ORIGINALS and bool(_DIGEST.fullmatch(digest)) and digest != self.sha256


@dataclass(frozen=True, slots=True)
class Summary:
    """The contents of a backup.

    Args:
        databases: names of the services whose databases are in it.
        object_count: number of objects.
        object_bytes: their total size.
        gone: number of objects that were deleted during the backup.
        damaged: keys of damaged originals: their SHA-256 differs from their name.
        made: time of the backup.
    """

    databases: tuple[str, ...]
    object_count: int
    object_bytes: int
    gone: int
    damaged: tuple[str, ...] = ()
    made: str = field(default="", compare=False)

    @property
    def many_gone(self) -> bool:
        """Whether so many were deleted, a tenth of all, that the store may have lost them."""
        return self.gone > 0 and self.gone * 10 >= self.object_count + self.gone


def databases(settings: SuiteSettings) -> dict[str, ServiceDatabase]:
    """The database of each service.

    Raises:
        InvalidInputError: a URL is wrong.
    """
    places: dict[str, ServicePlace] = {name: getattr(settings, name) for name in SERVICES}
    folder = settings.data_dir.absolute() / "databases"
    return {
        name: service_database(place.database_url.get_secret_value(), folder / f"{name}.sqlite")
        for name, place in places.items()
    }


async def database_faults(settings: SuiteSettings, names: Iterable[str]) -> dict[str, dict[str, str]]:
    """The faults of databases whose services are not ready, by service: reason and message.

    Raises:
        InvalidInputError: a URL is wrong.
    """
    found = {}
    places = databases(settings)
    for name in [name for name in names if name in places]:
        try:
            await places[name].check()
        except StemTubeError as error:
            found[name] = {"reason": error.reason, "message": error.message}
    return found


async def backup(settings: SuiteSettings, folder: Path, show_progress: ShowProgress) -> Summary:
    """Makes a backup.

    Args:
        settings: of the suite.
        folder: created; if it exists, it must be empty.
        show_progress: called with the progress.

    Raises:
        StemTubeError: something is in the folder (reason NOT_EMPTY), a database is damaged (DATABASE_DAMAGED), the
            object store is not mounted (STORE_AWAY) or not the library's (STORE_WRONG), or something cannot be read or
            written. The folder is then unchanged.
    """
    sources = databases(settings)
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if any(folder.iterdir()):
        raise PreconditionError(f"{folder} is not empty: a backup needs a folder of its own.", "NOT_EMPTY")
    try:
        return await _fill(settings, folder, sources, show_progress)
    except BaseException:
        await asyncio.to_thread(_clear, folder, is_new)
        raise


def _clear(folder: Path, is_new: bool) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if not is_new:
        folder.mkdir(mode=0o700, exist_ok=True)


async def _fill(
    settings: SuiteSettings, folder: Path, sources: dict[str, ServiceDatabase], show_progress: ShowProgress
) -> Summary:
    (folder / DATABASES).mkdir()
    copied = []
    for name, source in sources.items():
        show_progress(f"database of {name}", 0, 0)
        path = folder / DATABASES / name
        await source.copy(path)
        entry = await asyncio.to_thread(entry_of, path, name)
        copied.append({**asdict(entry), "kind": source.kind})
    store = open_marked_store(settings)
    await expect_library_store(store, sources[LIBRARY])
    objects, gone = await _copy_objects(store, folder, show_progress)
    await expect_library_store(store, sources[LIBRARY])
    lines = "".join(json.dumps(asdict(entry)) + "\n" for entry in objects)
    (folder / OBJECT_LIST).write_text(lines)
    about = {
        "format": FORMAT,
        "stemtube": version("stemtube"),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "databases": copied,
        "objects": asdict(entry_of(folder / OBJECT_LIST, OBJECT_LIST)),
    }
    draft = folder / f"{ABOUT}.draft"
    draft.write_text(json.dumps(about, indent=1))
    draft.replace(folder / ABOUT)
    return summary_of(tuple(sources), objects, str(about["made"]), gone)


def summary_of(names: tuple[str, ...], objects: list[Entry], made: str, gone: int = 0) -> Summary:
    """The summary of a backup with these objects."""
    damaged = tuple(entry.name for entry in objects if entry.damaged)
    return Summary(names, len(objects), sum(entry.size for entry in objects), gone, damaged, made)


async def _copy_objects(store: ObjectStore, folder: Path, show_progress: ShowProgress) -> tuple[list[Entry], int]:
    """Copies all objects; returns their entries, and the number of objects that were deleted meanwhile."""
    target = ObjectStore.from_url(str((folder / OBJECTS).absolute()))
    show_progress("objects are counted", 0, 0)
    known = sorted([info async for info in store.list()], key=lambda info: info.key)
    total, done = sum(info.size for info in known), 0
    entries: list[Entry] = []

    async def copy(info: ObjectInfo) -> None:
        nonlocal done
        entry = await _copy_object(store, target, info.key)
        if entry:
            entries.append(entry)
        done += info.size
        show_progress("objects", done, total)

    await in_parallel(known, copy)
    return sorted(entries, key=lambda entry: entry.name), len(known) - len(entries)


async def _copy_object(store: ObjectStore, target: ObjectStore, key: str) -> Entry | None:
    """Copies an object; None if it was deleted."""
    for tries_left in reversed(range(TRIES)):
        digest = hashlib.sha256()

        async def pieces(digest: "hashlib._Hash" = digest) -> AsyncIterator[bytes]:
            async for piece in store.stream(key):
                digest.update(piece)
                yield piece

        try:
            size = await target.put(key, pieces())
        except NotFoundError:
            return None
        except UnavailableError as error:
            if error.reason != "OBJECT_CHANGED" or not tries_left:
                raise
            continue
        return Entry(key, size, digest.hexdigest())
    raise AssertionError("unreachable")


def entry_of(path: Path, name: str) -> Entry:
    """Computes the size and checksum of a file. Blocks."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Entry(name, path.stat().st_size, digest)


async def in_parallel(items: Iterable[T], work: Callable[[T], Awaitable[None]]) -> None:
    """Calls `work` with each item, for several items at the same time; the first error ends it."""
    left = iter(items)

    async def take() -> None:
        for item in left:
            await work(item)

    tasks = [asyncio.create_task(take()) for _ in range(AT_ONCE)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
