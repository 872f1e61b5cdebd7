"""Model weights: found on this machine, or fetched, verified and shared by all of its processes.

A file is looked for in the models directory, then in the Python package that ships it, then at its hub. Whether a hub
can be reached is decided within a few seconds, also on networks that swallow packets, and remembered: in the process
and, for its neighbours, in a small file under the models directory.
"""

import errno
import hashlib
import http.client
import importlib.metadata
import json
import os
import re
import shutil
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import certifi
from filelock import FileLock, Timeout

from services.common.errors import WeightsMissingError

Progress = Callable[[float], None]

CHUNK_BYTES = 1 << 20
MIN_BYTES_PER_S = 1024  # slower than this over a whole `stall_timeout` counts as stalled
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


@dataclass(frozen=True, slots=True)
class WeightFile:
    """One file of a model.

    Args:
        path: where it lies in the models directory, relative, with `/`.
        url: where it can be fetched, http(s).
        checksum: `sha256:<hex>`, where the first 8 digits or more will do (demucs puts these in its file names), or
            `git-blob-sha1:<hex>`. Without one, a download is checked against what the Hugging Face hub declares.
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
    """

    available: bool
    reason: str
    present: bool = False


@dataclass(frozen=True, slots=True)
class _Answer:
    """What is remembered of a host or an address: why it cannot be used (empty: it can), and when that was found."""

    fault: str
    at: float


class WeightStore:
    """The models directory and the ways to fill it. Safe for use by many threads and processes.

    Args:
        root: the models directory; may be missing or read-only as long as nothing must be fetched.
        hub_timeout: seconds within which a host must answer, all of DNS, connection and TLS together.
        offline: never use the network.
        stall_timeout: seconds without (noticeable) data after which a download fails.
        fetch_timeout: seconds that a download may take in all, waiting for another process included.
        memory_ttl: seconds for which a host's state is remembered.
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
        self._hub_timeout = hub_timeout
        self._stall_timeout = stall_timeout
        self._fetch_timeout = fetch_timeout
        self._memory_ttl = memory_ttl
        self._answers: dict[str, _Answer] = {}
        self._verified: dict[Path, tuple[int, int]] = {}
        self._lock = threading.Lock()
        self._host_locks: dict[str, threading.Lock] = {}

    def find(self, file: WeightFile) -> Path | None:
        """The file on this machine, in the models directory or in its Python package; None if it is in neither."""
        own = self.root / file.path
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

        Blocks for up to `hub_timeout` per unknown host, so keep it off an event loop.
        """
        missing = [file for file in weights.files if self.find(file) is None]
        if not missing:
            shipped = {
                file.package[0] for file in weights.files if file.package and not (self.root / file.path).is_file()
            }
            place = (
                f"come with the Python package {', '.join(sorted(shipped))}"
                if shipped
                else "are in the models directory"
            )
            return Availability(True, f"its weights {place}", present=True)
        for file in missing:
            if fault := self._fault(file.url):
                return Availability(False, _advice(weights, file, fault))
        hosts = sorted({urlsplit(file.url or "").netloc for file in missing})
        return Availability(True, f"its weights can be fetched from {', '.join(hosts)}")

    def fetch(self, weights: Weights, progress: Progress = lambda _: None) -> tuple[Path, ...]:
        """The paths of all of a model's files, in order; those that are not here are downloaded and verified.

        Args:
            weights: what is needed.
            progress: called with the fraction done, in [0, 1], never falling; what it raises stops the download.

        Raises:
            WeightsMissingError: a file is neither here nor to be had, or is damaged; the message says what to do.
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
        """Drops what is remembered of hosts, so that the next question asks them again."""
        with self._lock:
            self._answers.clear()
        shutil.rmtree(self.root / ".hub", ignore_errors=True)

    def _obtain(self, weights: Weights, file: WeightFile, progress: Progress) -> Path:
        if found := self.find(file):
            return self._checked(weights, file, found)
        if fault := self._fault(file.url):
            raise _missing(weights, file, fault)
        target = self.root / file.path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with self._only_process(target, progress):
                if found := self.find(file):  # another process was faster
                    return self._checked(weights, file, found)
                self._download(file, target, progress)
        except _FetchError as error:
            self._remember(error.key, str(error))
            raise _missing(weights, file, str(error)) from error
        except Timeout as error:
            raise _missing(weights, file, "another process has been fetching it for too long") from error
        except OSError as error:
            raise _missing(weights, file, f"the models directory cannot be written: {error.strerror}") from error
        return target

    def _checked(self, weights: Weights, file: WeightFile, path: Path) -> Path:
        """`path`, once its content has been compared with the checksum; again only if the file changes."""
        stat = path.stat()
        state = (stat.st_size, stat.st_mtime_ns)
        if file.checksum and self._verified.get(path) != state:
            if not matches(path, file.checksum):
                raise _missing(weights, file, "the file that is here is damaged or another one; delete it first")
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
        """Streams a file beside its place, verifies it and moves it there."""
        assert file.url is not None
        part = target.with_name(f".{target.name}.part")
        try:
            declared = self._stream(file.url, part, progress)
            checksum = file.checksum or declared
            if checksum and not matches(part, checksum):
                raise _FetchError(file.url, f"the download does not match its checksum {checksum}")
            os.replace(part, target)
            stat = target.stat()
            self._verified[target] = (stat.st_size, stat.st_mtime_ns)
        except urllib.error.HTTPError as error:
            raise _FetchError(file.url, _describe(error)) from error
        except (OSError, http.client.HTTPException) as error:
            if (
                isinstance(error, OSError)
                and error.errno in DISK_ERRORS
                and not isinstance(error, urllib.error.URLError)
            ):
                raise
            raise _FetchError(urlsplit(file.url).netloc, _describe(error)) from error
        finally:
            part.unlink(missing_ok=True)

    def _stream(self, url: str, part: Path, progress: Progress) -> str | None:
        """Writes the answer to `part` and returns the checksum that the hub declares for it, if any."""
        started = window = time.monotonic()
        received = window_received = 0
        redirects = _Redirects()
        # Redirects lead to further hosts, so opening may take a few times what one host may.
        with _within(3 * self._hub_timeout, lambda: self._open(url, "GET", self._stall_timeout, redirects)) as response:
            declared = redirects.checksum or _declared_checksum(response.headers)
            length = response.headers.get("Content-Length")
            expected = int(length) if length else None
            with part.open("wb") as out:
                while chunk := response.read1(CHUNK_BYTES):
                    out.write(chunk)
                    received += len(chunk)
                    window_received += len(chunk)
                    now = time.monotonic()
                    if now - started > self._fetch_timeout:
                        raise _FetchError(url, f"the download was not done within {self._fetch_timeout:g} s")
                    if now - window > self._stall_timeout:
                        if window_received < MIN_BYTES_PER_S * self._stall_timeout:
                            raise _FetchError(urlsplit(url).netloc, "the download stalled")
                        window, window_received = now, 0
                    progress(received / expected if expected else 0.0)
                out.flush()
                os.fsync(out.fileno())
        if expected is not None and received != expected:
            raise _FetchError(url, f"the download was cut off after {received} of {expected} bytes")
        return declared

    def _fault(self, url: str | None) -> str:
        """Why `url` cannot be fetched now; empty if it can."""
        if url is None:
            return "it is on no hub"
        if self.offline:
            return "offline mode is on"
        host = urlsplit(url).netloc
        with self._lock:
            host_lock = self._host_locks.setdefault(host, threading.Lock())
        with host_lock:  # threads share one question
            for key in (url, host):
                if known := self._recall(key):
                    return known.fault
            return self._ask(url, host)

    def _ask(self, url: str, host: str) -> str:
        """Asks for the headers of `url` within `hub_timeout` and remembers the outcome."""
        try:
            _within(self._hub_timeout, lambda: self._open(url, "HEAD", self._hub_timeout, _Redirects())).close()
        except urllib.error.HTTPError as error:
            if error.code != HTTPStatus.METHOD_NOT_ALLOWED:
                return self._remember(url, _describe(error))
        except TimeoutError:
            return self._remember(host, f"no answer within {self._hub_timeout:g} s")
        except (OSError, http.client.HTTPException) as error:
            return self._remember(host, _describe(error))
        return self._remember(host, "")

    def _open(self, url: str, method: str, timeout: float, redirects: "_Redirects") -> Any:
        """Sends a request, through the proxy that the environment names, and returns the open response."""
        request = urllib.request.Request(url, method=method, headers={"User-Agent": "stemtube"})
        context = ssl.create_default_context()
        context.load_verify_locations(certifi.where())  # some Pythons come without any authorities
        opener = urllib.request.build_opener(redirects, urllib.request.HTTPSHandler(context=context))
        return opener.open(request, timeout=timeout)

    def _memory(self, key: str) -> Path:
        return self.root / ".hub" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"

    def _remember(self, key: str, fault: str) -> str:
        answer = _Answer(fault, time.time())
        with self._lock:
            self._answers[key] = answer
        with suppress(OSError):  # a read-only models directory: the process's own memory must do
            memory = self._memory(key)
            memory.parent.mkdir(parents=True, exist_ok=True)
            part = memory.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
            part.write_text(json.dumps({"key": key, **asdict(answer)}))
            os.replace(part, memory)
        return fault

    def _recall(self, key: str) -> _Answer | None:
        with self._lock:
            answer = self._answers.get(key)
        if answer is None:
            with suppress(OSError, ValueError, KeyError, TypeError):
                stored = json.loads(self._memory(key).read_text())
                if stored["key"] == key:
                    answer = _Answer(str(stored["fault"]), float(stored["at"]))
        if answer and 0 <= time.time() - answer.at < self._memory_ttl:
            return answer
        return None


def matches(path: Path, checksum: str) -> bool:
    """Whether a file has a checksum, written as in `WeightFile.checksum`."""
    kind, _, expected = checksum.partition(":")
    if kind == "sha256":
        digest = hashlib.sha256()
    else:
        digest = hashlib.sha1(usedforsecurity=False)
        digest.update(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as content:
        while chunk := content.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest().startswith(expected)


class _FetchError(Exception):
    """A download failed in a way that is worth remembering for `key`, a host or an address."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, never from https down to http, and keeps the checksum that the Hugging Face hub declares.

    The hub names it only in its own answer, which redirects to a content server.
    """

    checksum: str | None = None

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        self.checksum = self.checksum or _declared_checksum(headers)
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise urllib.error.HTTPError(req.full_url, code, "redirect to an insecure address", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _declared_checksum(headers: Any) -> str | None:
    """The checksum in the Hugging Face hub's headers: sha256 for large files, the git blob's id for small ones."""
    if "X-Repo-Commit" not in headers and "X-Linked-Etag" not in headers:
        return None
    tag = (headers.get("X-Linked-Etag") or headers.get("ETag") or "").removeprefix("W/").strip('"')
    kinds = {64: "sha256", 40: "git-blob-sha1"}
    return f"{kinds[len(tag)]}:{tag}" if re.fullmatch(r"[0-9a-f]+", tag) and len(tag) in kinds else None


def _within(seconds: float, call: Callable[[], Any]) -> Any:
    """Runs `call` in a thread, because name resolution knows no timeout.

    Raises:
        TimeoutError: it was not done in time; what it returns later is closed.
    """
    outcome: Future[Any] = Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, name="hub", daemon=True).start()
    try:
        return outcome.result(seconds)
    except TimeoutError:
        outcome.add_done_callback(lambda late: late.exception() or late.result().close())
        raise


def _describe(error: Exception) -> str:
    """A network error in a few words, without addresses."""
    if isinstance(error, urllib.error.HTTPError):
        return f"it answers {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, Exception):
        return _describe(error.reason)
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def _advice(weights: Weights, file: WeightFile, fault: str) -> str:
    """What is missing, why, and how to get it."""
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
