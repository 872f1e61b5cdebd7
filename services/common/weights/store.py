"""Model weights: finds them on this machine, or fetches and verifies them for all of its processes.

A file is searched in the models directory, then in the Python package that ships it, then at its hub. A hub that cannot
be reached is noticed within a few seconds, even on networks that drop packets, and remembered in this process and, for
other processes, in a small file in the models directory.
"""

import hashlib
import importlib.metadata
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from services.common.errors import StemTubeError, WeightsMissingError
from services.common.weights.hub import FetchError, Hubs

Progress = Callable[[float], None]

UNKNOWN_MODEL_STATUS = 2
"""Exit status of `pull` if the service has no such model."""


@dataclass(frozen=True, slots=True)
class WeightFile:
    """One file of a model.

    Args:
        path: in the models directory, relative, with `/`.
        url: to fetch it from, http(s).
        checksum: `sha256:<hex>`, where 8 or more digits are enough (demucs has these in its file names), or
            `git-blob-sha1:<hex>`. Without one, a download is checked with the checksum of the Hugging Face hub.
        package: (distribution, path inside it) of a Python package that ships the file.
    """

    path: str
    url: str | None = None
    checksum: str | None = None
    package: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        relative = PurePosixPath(self.path)
        if relative.is_absolute() or ".." in relative.parts:
            raise ValueError(f"not a path inside the models directory: {self.path}")
        if self.checksum and not re.fullmatch(r"sha256:[0-9a-f]{8,64}|git-blob-sha1:[0-9a-f]{40}", self.checksum):
            raise ValueError(f"not a checksum: {self.checksum}")


@dataclass(frozen=True, slots=True)
class Weights:
    """All files of the model `name`."""

    name: str
    files: tuple[WeightFile, ...]


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a model can be used here.

    Args:
        available: its weights are here or can be fetched now.
        reason: a sentence for a person: where they are, or what is missing and how to get it.
        present: its weights are here.
        size_bytes: size of its weights on disk; 0 if they are not here.
    """

    available: bool
    reason: str
    present: bool = False
    size_bytes: int = 0


class WeightStore:
    """The models directory and the ways to fill it. Safe for use by many threads and processes.

    Args:
        root: the models directory; may be missing or read-only if nothing has to be fetched.
        hub_timeout: seconds within which a host must answer; includes DNS, connection and TLS.
        offline: never use the network.
        stall_timeout: a download fails after this many seconds with (almost) no data.
        fetch_timeout: longest time of a download in seconds, with the time spent waiting for another process.
        memory_ttl: how long the state of a host is remembered, in seconds.
    """

    def __init__(
        self,
        root: Path,
        *,
        hub_timeout: float = 5.0,
        offline: bool = False,
        stall_timeout: float = 20.0,
        fetch_timeout: float = 3600.0,
        memory_ttl: float = 600.0,
    ) -> None:
        self.root = root
        self.offline = offline
        self._fetch_timeout = fetch_timeout
        self._hubs = Hubs(
            root / ".hub",
            timeout=hub_timeout,
            stall_timeout=stall_timeout,
            fetch_timeout=fetch_timeout,
            memory_ttl=memory_ttl,
        )
        self._verified: dict[Path, tuple[int, int]] = {}

    def find(self, file: WeightFile) -> Path | None:
        """The file on this machine, in the models directory or in its Python package; None if it is in neither."""
        own = self._own(file)
        if own.is_file():
            return own
        if file.package:
            distribution, inside = file.package
            with suppress(importlib.metadata.PackageNotFoundError):
                shipped = Path(str(importlib.metadata.distribution(distribution).locate_file(inside)))
                if shipped.is_file():
                    return shipped
        return None

    def availability(self, weights: Weights) -> Availability:
        """Whether a model's files are here or can be fetched. Asks a hub at most once in `memory_ttl`.

        Blocks for up to `hub_timeout` per unknown host, so do not call it on an event loop.
        """
        found = [self.find(file) for file in weights.files]
        missing = [file for file, path in zip(weights.files, found, strict=True) if path is None]
        if not missing:
            size = sum(path.stat().st_size for path in found if path)
            shipped = [file.package[0] for file in weights.files if file.package and not self._own(file).is_file()]
            place = f"come with the Python package {shipped[0]}" if shipped else "are in the models directory"
            return Availability(True, f"its weights {place}", present=True, size_bytes=size)
        for file in missing:
            if fault := self._fault(file.url):
                return Availability(False, _advice(weights, file, fault))
        hosts = sorted({urlsplit(file.url or "").netloc for file in missing})
        return Availability(True, f"its weights can be fetched from {', '.join(hosts)}")

    def fetch(self, weights: Weights, progress: Progress = lambda _: None) -> tuple[Path, ...]:
        """Returns the paths of all files of a model, in order; downloads and verifies missing ones.

        Args:
            weights: the needed files.
            progress: called with the fraction done in [0, 1], which never falls; an exception from it stops the
                download.

        Raises:
            WeightsMissingError: a file is missing and cannot be fetched, or is damaged; the message says what to do.
        """
        count = len(weights.files)
        paths = []
        for index, file in enumerate(weights.files):

            def report(part: float, done: int = index) -> None:
                progress((done + part) / count)

            paths.append(self._obtain(weights, file, report))
            progress((index + 1) / count)
        return tuple(paths)

    def forget(self) -> None:
        """Forgets the state of all hubs, so that the next check asks them again."""
        self._hubs.forget()

    def _own(self, file: WeightFile) -> Path:
        return self.root / file.path

    def _fault(self, url: str | None) -> str:
        """Why `url` cannot be fetched now; empty if it can."""
        if url is None:
            return "it is on no hub"
        return "offline mode is on" if self.offline else self._hubs.fault(url)

    def _obtain(self, weights: Weights, file: WeightFile, progress: Progress) -> Path:
        if found := self.find(file):
            return self._checked(weights, file, found)
        if fault := self._fault(file.url):
            raise _missing(weights, file, fault)
        target = self._own(file)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with self._only_process(target, progress):
                if found := self.find(file):  # another process was faster
                    return self._checked(weights, file, found)
                self._download(file, target, progress)
        except StemTubeError:
            raise
        except FetchError as error:
            raise _missing(weights, file, str(error)) from error
        except Timeout as error:
            raise _missing(weights, file, "another process has been fetching it for too long") from error
        except OSError as error:
            raise _missing(weights, file, f"the models directory cannot be written: {error.strerror}") from error
        return target

    def _checked(self, weights: Weights, file: WeightFile, path: Path) -> Path:
        """Compares a file with its checksum and returns its path; compares again only if the file has changed."""
        stat = path.stat()
        state = (stat.st_size, stat.st_mtime_ns)
        if file.checksum and self._verified.get(path) != state:
            if not matches(path, file.checksum):
                raise WeightsMissingError(
                    f"{path.name} of the model {weights.name} is damaged or another file than it should be: delete it "
                    f"from {PurePosixPath(file.path).parent}/ of the models directory, or put the right one there",
                    model=weights.name,
                    file=path.name,
                )
            self._verified[path] = state
        return path

    @contextmanager
    def _only_process(self, target: Path, progress: Progress) -> Iterator[None]:
        """Holds the machine-wide lock of a file; `progress` may stop the wait for it."""
        lock = FileLock(target.with_name(f".{target.name}.lock"))
        deadline = time.monotonic() + self._fetch_timeout
        while True:
            progress(0.0)
            try:
                lock.acquire(timeout=0.5)
                break
            except Timeout:
                if time.monotonic() > deadline:
                    raise
        try:
            yield
        finally:
            lock.release()

    def _download(self, file: WeightFile, target: Path, progress: Progress) -> None:
        """Downloads a file beside its place, verifies it and moves it there."""
        assert file.url is not None
        part = target.with_name(f".{target.name}.part")
        try:
            declared = self._hubs.download(file.url, part, progress)
            checksum = file.checksum or declared
            if checksum and not matches(part, checksum):
                raise FetchError(self._hubs.remember(file.url, f"the download does not match its checksum {checksum}"))
            os.replace(part, target)
            stat = target.stat()
            self._verified[target] = (stat.st_size, stat.st_mtime_ns)
        finally:
            part.unlink(missing_ok=True)


def matches(path: Path, checksum: str) -> bool:
    """Whether a file has a checksum, written as in `WeightFile.checksum`."""
    kind, _, expected = checksum.partition(":")
    if kind == "sha256":
        digest = hashlib.sha256()
    else:
        digest = hashlib.sha1(usedforsecurity=False)
        digest.update(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as content:
        while chunk := content.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest().startswith(expected)


def _advice(weights: Weights, file: WeightFile, fault: str) -> str:
    """A message that names the missing files, the cause, and how to get them."""
    path = PurePosixPath(file.path)
    host = urlsplit(file.url).netloc if file.url else ""
    why = f"and cannot be fetched from {host} ({fault})" if host else f"({fault})"
    ways = [f"put {path.name} into {path.parent}/ of the models directory"]
    if host:
        ways.append(f"run `stemtube models pull {weights.name}` with access to {host}")
    if file.package:
        ways.append(f"install the Python package {file.package[0]}")
    return f"{path.name} of the model {weights.name} is not here {why}: {', or '.join(ways)}"


def _missing(weights: Weights, file: WeightFile, fault: str) -> WeightsMissingError:
    return WeightsMissingError(_advice(weights, file, fault), model=weights.name, file=PurePosixPath(file.path).name)


def pull(store: WeightStore, find: Callable[[str], Weights], arguments: Sequence[str]) -> None:
    """Fetches a model's weights at a terminal and shows the progress in per cent.

    Args:
        store: the store to put them in.
        find: returns a model's files by its name.
        arguments: of the command line: the name; with `--find` before it, only checks whether there is such a model.

    Raises:
        SystemExit: with one line on standard error; status 1 if they cannot be fetched, 2 if there is no such model.
    """
    shown = -1

    def show(fraction: float) -> None:
        nonlocal shown
        if int(fraction * 100) > shown:
            shown = int(fraction * 100)
            sys.stderr.write(f"\r{shown:3d} %")

    try:
        weights = find(arguments[-1])
        if "--find" in arguments:
            return
        store.forget()
        store.fetch(weights, show)
    except StemTubeError as error:
        sys.stderr.write(f"\rstemtube: {error.message}\n")
        sys.exit(UNKNOWN_MODEL_STATUS if error.reason == "UNKNOWN_MODEL" else 1)
    sys.stderr.write("\rthe weights are here\n")
