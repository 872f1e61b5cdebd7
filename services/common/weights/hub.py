"""Model hubs over HTTP(S): quickly checks whether a hub can be reached, remembers it, downloads with time limits."""

import errno
import hashlib
import http.client
import json
import os
import re
import shutil
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import certifi

from services.common.errors import StemTubeError

Progress = Callable[[float], None]

CHUNK_BYTES = 1 << 20
MIN_BYTES_PER_S = 1024  # slower than this over a whole `stall_timeout` counts as stalled
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


class FetchError(Exception):
    """A download failed; the message says why in a few words, without addresses."""


class _HostError(FetchError):
    """A download failed for a reason that applies to all files of the host."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """A remembered check of a source: why it cannot be used (empty: it can), and the time of the check."""

    fault: str
    at: float


class Hubs:
    """The network access of a weight store. Safe for use by many threads and processes.

    Args:
        memory: folder of small files that share the results of checks with other processes; need not be writable.
        timeout: seconds within which a host must answer; includes DNS, connection and TLS.
        stall_timeout: a download fails after this many seconds with (almost) no data.
        fetch_timeout: longest time of a download in seconds.
        memory_ttl: how long the result of a check is remembered, in seconds.
    """

    def __init__(
        self, memory: Path, *, timeout: float, stall_timeout: float, fetch_timeout: float, memory_ttl: float
    ) -> None:
        self._memory = memory
        self._timeout = timeout
        self._stall_timeout = stall_timeout
        self._fetch_timeout = fetch_timeout
        self._memory_ttl = memory_ttl
        self._answers: dict[str, _Answer] = {}
        self._lock = threading.Lock()
        self._host_locks: dict[str, threading.Lock] = {}

    def fault(self, url: str) -> str:
        """Why `url` cannot be fetched now, in a few words; empty if it can. Blocks for up to `timeout` if unknown."""
        host = urlsplit(url).netloc
        with self._lock:
            host_lock = self._host_locks.setdefault(host, threading.Lock())
        with host_lock:  # threads share one check
            for key in (url, host):
                if (known := self.recall(key)) is not None:
                    return known
            return self._ask(url, host)

    def download(self, url: str, target: Path, progress: Progress) -> str | None:
        """Streams `url` into the file `target`.

        Args:
            url: the address to fetch.
            target: written while data arrives; after an error its content is useless.
            progress: called with the fraction done, 0 while the length is unknown; an exception from it stops the
                download.

        Returns:
            The checksum that the Hugging Face hub declares, in the form of `WeightFile.checksum`; None from other hubs.

        Raises:
            FetchError: the file did not arrive completely; remembered, so that `fault` returns it for a while.
            OSError: `target` cannot be written.
        """
        host = urlsplit(url).netloc
        try:
            return self._stream(url, target, progress)
        except StemTubeError:  # from `progress`; some of them are also an OSError
            raise
        except urllib.error.HTTPError as error:
            raise FetchError(self.remember(url, _describe(error))) from error
        except _HostError as error:
            self.remember(host, str(error))
            raise
        except FetchError as error:
            self.remember(url, str(error))
            raise
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "errno", None) in DISK_ERRORS:  # similar network errors are wrapped in a URLError
                raise
            raise _HostError(self.remember(host, _describe(error))) from error

    def recall(self, key: str) -> str | None:
        """Why `key` cannot be used, as it was remembered (empty: it can); None if nothing is remembered."""
        with self._lock:
            answer = self._answers.get(key)
        if answer is None:
            with suppress(OSError, ValueError, KeyError, TypeError):
                stored = json.loads(self._file(key).read_text())
                if stored["key"] == key:
                    answer = _Answer(str(stored["fault"]), float(stored["at"]))
        if answer and 0 <= time.time() - answer.at < self._memory_ttl:
            return answer.fault
        return None

    def remember(self, key: str, fault: str) -> str:
        """Remembers why `key`, a host or another source, cannot be used (empty: it can); returns `fault`."""
        answer = _Answer(fault, time.time())
        with self._lock:
            self._answers[key] = answer
        with suppress(OSError):  # in a read-only models directory only this process remembers it
            memory = self._file(key)
            memory.parent.mkdir(parents=True, exist_ok=True)
            part = memory.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
            part.write_text(json.dumps({"key": key, **asdict(answer)}))
            os.replace(part, memory)
        return fault

    def forget(self) -> None:
        """Forgets all checks, so that the next one asks the hosts again."""
        with self._lock:
            self._answers.clear()
        shutil.rmtree(self._memory, ignore_errors=True)

    def _stream(self, url: str, part: Path, progress: Progress) -> str | None:
        """Writes the answer to `part` and returns the checksum that the hub declares for it, if any."""
        started = window = time.monotonic()
        received = window_received = 0
        redirects = _Redirects()
        # Redirects lead to other hosts, so opening may take a few times as long as one host may.
        with _within(3 * self._timeout, lambda: self._open(url, "GET", self._stall_timeout, redirects)) as response:
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
                        raise FetchError(f"the download was not done within {self._fetch_timeout:g} s")
                    if now - window > self._stall_timeout:
                        if window_received < MIN_BYTES_PER_S * self._stall_timeout:
                            raise _HostError("the download stalled")
                        window, window_received = now, 0
                    progress(received / expected if expected else 0.0)
                out.flush()
                os.fsync(out.fileno())
        if expected is not None and received != expected:
            raise FetchError(f"the download was cut off after {received} of {expected} bytes")
        return declared

    def _ask(self, url: str, host: str) -> str:
        """Asks for the headers of `url` within `timeout` and remembers the outcome."""
        try:
            _within(self._timeout, lambda: self._open(url, "HEAD", self._timeout, _Redirects())).close()
        except urllib.error.HTTPError as error:
            if error.code != HTTPStatus.METHOD_NOT_ALLOWED:
                return self.remember(url, _describe(error))
        except TimeoutError:
            return self.remember(host, f"no answer within {self._timeout:g} s")
        except (OSError, http.client.HTTPException) as error:
            return self.remember(host, _describe(error))
        return self.remember(host, "")

    def _open(self, url: str, method: str, timeout: float, redirects: "_Redirects") -> Any:
        """Sends a request, through the proxy that the environment names, and returns the open response."""
        request = urllib.request.Request(url, method=method, headers={"User-Agent": "stemtube"})
        context = ssl.create_default_context()
        context.load_verify_locations(certifi.where())  # some Pythons come without any authorities
        opener = urllib.request.build_opener(redirects, urllib.request.HTTPSHandler(context=context))
        return opener.open(request, timeout=timeout)

    def _file(self, key: str) -> Path:
        return self._memory / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, never from https down to http, and keeps the checksum that the Hugging Face hub declares.

    The hub declares it only in its own answer, which redirects to a content server.
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
    """Runs `call` in a thread, because name resolution has no timeout.

    Raises:
        TimeoutError: it took too long; its result is closed when it comes.
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
