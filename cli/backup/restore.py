"""`stemtube admin restore`: restores a backup, after checking all of it.

Objects come first and databases last, so that an interrupted restore leaves no record without its object. Until the
restore is complete, the marker of the store is no library's. Then marker and database get a new id: with the id in the
backup, the old disk would be mistaken for this store when it is mounted again.
"""

import asyncio
import json
import uuid
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from cli.backup.backup import (
    ABOUT,
    DATABASES,
    FORMAT,
    LIBRARY,
    OBJECT_LIST,
    OBJECTS,
    Entry,
    ShowProgress,
    Summary,
    databases,
    entry_of,
    in_parallel,
    summary_of,
)
from cli.backup.databases import ServiceDatabase
from cli.backup.library_store import expect_restorable
from cli.commands.demo import LOCK
from cli.local import status
from cli.local.suite import SuiteSettings
from services.common.errors import (
    DataLossError,
    InvalidInputError,
    PreconditionError,
    StemTubeError,
    UnavailableError,
)
from services.common.storage.marked_store import MARKER, RESTORING, MarkedStore
from services.common.storage.object_info import check_key
from services.common.storage.objects import ObjectStore, open_store

AUTH = "auth"


@dataclass(frozen=True, slots=True)
class Backup:
    """The contents of a backup: its time, its databases with their kinds, and its objects."""

    made: str
    databases: list[tuple[Entry, str]]
    objects: list[Entry]


async def restore(
    settings: SuiteSettings,
    folder: Path,
    show_progress: ShowProgress,
    *,
    force: bool,
    keep_sign_ins: bool = False,
    adopt_store: bool = False,
) -> Summary:
    """Restores a backup.

    Args:
        settings: the settings of the suite to restore to.
        folder: the backup's.
        show_progress: called with the progress.
        force: replace what is there. Objects that the backup does not have stay for the sweep, and an original that is
            there is not replaced by a damaged one.
        keep_sign_ins: sessions, tokens, invitations, one-time passwords and signing keys are as they were then, also
            those that were ended since; otherwise none of them is good any more (see `sign_ins`).
        adopt_store: accept an object store that is not the present library's: a new disk or bucket.

    Raises:
        StemTubeError: the folder is not a backup, or a damaged one (reason BAD_BACKUP), the suite runs (RUNNING), a
            database or the object store is not empty (NOT_EMPTY), the object store is not mounted (STORE_AWAY) or is
            another library's (STORE_WRONG), or something cannot be read or written.
    """
    targets = databases(settings)
    found = read(folder)
    for entry, kind in found.databases:
        if entry.name not in targets or targets[entry.name].kind != kind:
            raise PreconditionError(
                f"The backup has {entry.name} as {kind}, and the settings have it elsewhere: set its database's URL.",
                "OTHER_DATABASE",
            )
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(settings.data_dir / LOCK, timeout=0):
            await _expect_nobody(settings)
            store = open_store(settings)
            if not force:
                for name, target in targets.items():
                    _expect_empty(await target.is_empty(), f"the database of {name}")
                _expect_empty(await anext(store.list(), None) is None, "the object store")
            if not adopt_store:
                await expect_restorable(MarkedStore(store), targets[LIBRARY], folder / OBJECTS)
            await _verify(folder, found, show_progress)
            for entry, _kind in found.databases:
                show_progress(f"checking the database of {entry.name}", 0, 0)
                await _expect_whole(targets[entry.name], folder / DATABASES / entry.name)
            await _put_objects(store, folder, found.objects, show_progress)
            await _put_databases(MarkedStore(store), folder, found, targets, show_progress, keep_sign_ins=keep_sign_ins)
    except Timeout:
        raise _running() from None
    return summary_of(tuple(entry.name for entry, _kind in found.databases), found.objects, found.made)


def read(folder: Path) -> Backup:
    """Reads the contents of a backup.

    Raises:
        InvalidInputError: the folder is not a backup, or an unfinished or damaged one (reason BAD_BACKUP).
    """
    try:
        about = json.loads((folder / ABOUT).read_text())
        if about["format"] != FORMAT:
            raise InvalidInputError(f"{folder} was made by another version of StemTube.", "BAD_BACKUP")
        if entry_of(folder / OBJECT_LIST, OBJECT_LIST) != Entry(**about["objects"]):
            raise InvalidInputError(f"{folder / OBJECT_LIST} is damaged.", "BAD_BACKUP")
        copies = [(Entry(each["name"], each["size"], each["sha256"]), str(each["kind"])) for each in about["databases"]]
        objects = [Entry(**json.loads(line)) for line in (folder / OBJECT_LIST).read_text().splitlines()]
    except StemTubeError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(f"{folder} is not a backup that was finished: {error}.", "BAD_BACKUP") from error
    for entry in objects:
        check_key(entry.name)
    return Backup(str(about.get("made", "")), copies, objects)


async def _verify(folder: Path, found: Backup, show_progress: ShowProgress) -> None:
    files = [(folder / DATABASES / entry.name, entry) for entry, _kind in found.databases]
    files += [(folder / OBJECTS / entry.name, entry) for entry in found.objects]
    total, done = sum(entry.size for _path, entry in files), 0
    for path, entry in files:
        try:
            whole = await asyncio.to_thread(entry_of, path, entry.name) == entry
        except OSError:
            whole = False
        if not whole:
            raise InvalidInputError(f"{path} is missing or damaged; nothing was changed.", "BAD_BACKUP")
        done += entry.size
        show_progress("checking", done, total)


async def _expect_whole(target: ServiceDatabase, path: Path) -> None:
    """Checks a copy of a database, which can be damaged, in spite of a correct checksum, if the database was."""
    try:
        await target.check_copy(path)
    except (DataLossError, UnavailableError) as error:
        raise InvalidInputError(f"{error.message} Nothing was changed.", "BAD_BACKUP") from error


async def _put_objects(store: ObjectStore, folder: Path, entries: list[Entry], show_progress: ShowProgress) -> None:
    total, done = sum(entry.size for entry in entries), 0
    marked = MarkedStore(store)
    if await marked.marker() is None:
        await store.put(MARKER, RESTORING.encode())

    async def put(entry: Entry) -> None:
        nonlocal done
        if entry.name != MARKER and not (entry.damaged and await marked.exists(entry.name)):
            await marked.put(entry.name, folder / OBJECTS / entry.name)
        done += entry.size
        show_progress("objects", done, total)

    await in_parallel(entries, put)


async def _put_databases(
    store: MarkedStore,
    folder: Path,
    found: Backup,
    targets: dict[str, ServiceDatabase],
    show_progress: ShowProgress,
    *,
    keep_sign_ins: bool,
) -> None:
    """Replaces the databases, and gives the store a new id."""
    store_id = uuid.uuid4().hex
    await store.put(MARKER, RESTORING.encode())
    for entry, _kind in found.databases:
        show_progress(f"database of {entry.name}", 0, 0)
        await targets[entry.name].put_back(
            folder / DATABASES / entry.name,
            end_sign_ins=entry.name == AUTH and not keep_sign_ins,
            store_id=store_id if entry.name == LIBRARY else "",
        )
    if await targets[LIBRARY].store_id() == store_id:
        await store.put(MARKER, store_id.encode())
    else:
        await store.delete(MARKER)  # the database has no id: the library marks the store when it starts


async def _expect_nobody(settings: SuiteSettings) -> None:
    if any(process.state != "away" for process in await status.ask(settings.health_urls)):
        raise _running()


def _expect_empty(is_empty: bool, what: str) -> None:
    if not is_empty:
        raise PreconditionError(f"There is something in {what} already; --force replaces it.", "NOT_EMPTY")


def _running() -> PreconditionError:
    return PreconditionError("StemTube runs here: stop it first.", "RUNNING")
