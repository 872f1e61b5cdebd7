"""Finding and fetching model weights, with a real web server as the hub."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from services.common.errors import StoppedError, WeightsMissingError
from services.common.weights.store import WeightFile, Weights, WeightStore

CONTENT = bytes(range(256)) * 20_000  # 5 MB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
GIT_BLOB = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest()
TIMEOUT = 0.5


class Hub(ThreadingHTTPServer):
    """Serves CONTENT correctly or wrongly, depending on the path, and records requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked: list[str] = []
        self.done = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignores clients that disconnect, which these tests do."""

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def weights(self, path: str, checksum: str | None = f"sha256:{SHA256}") -> Weights:
        return Weights("tiny", (WeightFile("family/tiny.bin", f"http://{self.host}/{path}", checksum),))


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.server.asked.append(f"HEAD {self.path}")
        self.send_response({"/forbidden": 403, "/busy": 503}.get(self.path, 200))
        self.end_headers()

    def do_GET(self) -> None:
        self.server.asked.append(f"GET {self.path}")
        if self.path in ("/declared", "/declared-wrongly"):
            self.send_response(302)
            self.send_header("Location", "/content-server")
            self.send_header("X-Linked-Etag", f'"{SHA256}"' if self.path == "/declared" else f'"{"0" * 64}"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(404 if self.path == "/gone" else 200)
        if self.path != "/unknown-length":
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        if self.path == "/slow":
            time.sleep(1)
        if self.path in ("/cut", "/stalled"):
            self.wfile.write(CONTENT[:1_000_000])
            if self.path == "/stalled":
                self.server.done.wait(30)
        elif self.path == "/trickle":
            while not self.server.done.wait(0.05):
                self.wfile.write(b".")
        else:
            self.wfile.write(CONTENT)

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.done.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def store(tmp_path: Path) -> WeightStore:
    return WeightStore(tmp_path / "models", hub_timeout=TIMEOUT, stall_timeout=TIMEOUT)


def at(url: str | None, **more: object) -> Weights:
    return Weights("tiny", (WeightFile("family/tiny.bin", url, **more),))  # type: ignore[arg-type]


def left_behind(store: WeightStore) -> list[str]:
    """Files in the models directory, except locks and the memory of hubs."""
    paths = (path for path in store.root.rglob("*") if path.is_file() and path.parent.name != ".hub")
    return [path.name for path in paths if path.suffix != ".lock"]


def test_a_file_is_fetched_once_and_then_found(hub: Hub, store: WeightStore) -> None:
    weights = hub.weights("good")
    progress: list[float] = []
    before = store.availability(weights)
    assert (before.available, before.present) == (True, False)
    assert hub.host in before.reason

    (path,) = store.fetch(weights, progress.append)

    assert path == store.root / "family/tiny.bin"
    assert path.read_bytes() == CONTENT
    assert progress == sorted(progress)
    assert progress[0] == 0.0
    assert progress[-1] == 1.0
    assert len(progress) > 3
    assert store.availability(weights).present
    assert store.fetch(weights) == (path,)
    assert hub.asked == ["HEAD /good", "GET /good"]
    assert left_behind(store) == ["tiny.bin"]


@pytest.mark.parametrize("checksum", [f"sha256:{SHA256[:8]}", f"git-blob-sha1:{GIT_BLOB}", None])
def test_checksums_of_every_kind_are_accepted(hub: Hub, store: WeightStore, checksum: str | None) -> None:
    (path,) = store.fetch(hub.weights("good", checksum))
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("checksum", ["sha256:" + "0" * 64, "sha256:00000000", "git-blob-sha1:" + "0" * 40])
def test_a_wrong_checksum_is_refused_and_leaves_nothing(hub: Hub, store: WeightStore, checksum: str) -> None:
    with pytest.raises(WeightsMissingError, match="does not match its checksum"):
        store.fetch(hub.weights("good", checksum))
    assert left_behind(store) == []
    assert not store.availability(hub.weights("good", checksum)).available  # remembered, so `auto` can do without


def test_the_checksum_that_the_hugging_face_hub_declares_is_checked(hub: Hub, store: WeightStore) -> None:
    with pytest.raises(WeightsMissingError, match="does not match its checksum"):
        store.fetch(hub.weights("declared-wrongly", None))
    (path,) = store.fetch(hub.weights("declared", None))
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("cut", "cut off after 1000000 of 5120000 bytes"),
        ("stalled", "does not answer in time"),
        ("trickle", "stalled"),
        ("gone", "404"),
        ("forbidden", "403"),
        ("busy", "503"),
    ],
)
def test_a_bad_download_is_one_clear_error(hub: Hub, store: WeightStore, path: str, why: str) -> None:
    started = time.monotonic()
    with pytest.raises(WeightsMissingError, match=why) as caught:
        store.fetch(hub.weights(path))
    assert time.monotonic() - started < 4 * TIMEOUT
    assert caught.value.reason == "WEIGHTS_MISSING"
    assert "put tiny.bin into family/ of the models directory" in caught.value.message
    assert f"`stemtube models pull tiny` with access to {hub.host}" in caught.value.message
    assert str(store.root) not in caught.value.message
    assert left_behind(store) == []


def test_a_download_of_unknown_length_is_complete_when_the_checksum_says_so(hub: Hub, store: WeightStore) -> None:
    (path,) = store.fetch(hub.weights("unknown-length"))
    assert path.read_bytes() == CONTENT


def refused() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def test_a_refused_connection_is_noticed_at_once(store: WeightStore) -> None:
    started = time.monotonic()
    answer = store.availability(at(f"http://{refused()}/x"))
    assert not answer.available
    assert "refused" in answer.reason
    assert time.monotonic() - started < TIMEOUT


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_network_that_drops_packets_is_noticed_within_the_timeout_and_remembered(
    store: WeightStore, scheme: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as blackhole:  # connects, but never accepts nor answers
        weights = at(f"{scheme}://127.0.0.1:{blackhole.getsockname()[1]}/x")
        started = time.monotonic()
        with pytest.raises(WeightsMissingError, match=r"no answer within 0\.5 s|does not answer in time"):
            store.fetch(weights)
        assert time.monotonic() - started < 2 * TIMEOUT

        started = time.monotonic()
        assert not store.availability(weights).available
        neighbour = WeightStore(store.root, hub_timeout=TIMEOUT)
        assert not neighbour.availability(weights).available
        assert time.monotonic() - started < TIMEOUT / 2


def test_name_resolution_that_hangs_is_noticed_within_the_timeout(
    store: WeightStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()

    def hang(*_args: object, **_kwargs: object) -> list[object]:
        release.wait(10)
        raise OSError("too late")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    started = time.monotonic()
    answer = store.availability(at("https://hub.invalid/x"))
    elapsed = time.monotonic() - started
    release.set()
    assert not answer.available
    assert TIMEOUT <= elapsed < 2 * TIMEOUT


def test_threads_share_one_check(hub: Hub, store: WeightStore) -> None:
    threads = [threading.Thread(target=store.availability, args=(hub.weights("good"),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert hub.asked == ["HEAD /good"]


def test_the_memory_of_a_host_expires_and_can_be_cleared(hub: Hub, tmp_path: Path) -> None:
    store = WeightStore(tmp_path, hub_timeout=TIMEOUT, memory_ttl=0.2)
    for _ in range(2):
        store.availability(hub.weights("good"))
    assert len(hub.asked) == 1
    time.sleep(0.25)
    store.availability(hub.weights("good"))
    store.forget()
    store.availability(hub.weights("good"))
    assert len(hub.asked) == 3


def test_a_damaged_memory_is_ignored(hub: Hub, store: WeightStore) -> None:
    store.availability(hub.weights("good"))
    for memory in (store.root / ".hub").iterdir():
        assert json.loads(memory.read_text())["key"] == hub.host
        memory.write_text("{")
    assert WeightStore(store.root).availability(hub.weights("good")).available


def test_the_proxy_of_the_environment_is_used(hub: Hub, store: WeightStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://{hub.host}")
    store.fetch(at("http://hub.invalid/good", checksum=f"sha256:{SHA256}"))
    assert hub.asked == ["HEAD http://hub.invalid/good", "GET http://hub.invalid/good"]


def test_progress_can_stop_a_download(hub: Hub, store: WeightStore) -> None:
    def stop_halfway(fraction: float) -> None:
        if fraction > 0.5:
            raise StoppedError("enough")

    with pytest.raises(StoppedError):
        store.fetch(hub.weights("good"), stop_halfway)
    assert left_behind(store) == []


def test_two_processes_fetch_a_file_once(hub: Hub, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from services.common.weights.store import *\n"
        "file = WeightFile('family/tiny.bin', sys.argv[2], sys.argv[3])\n"
        "print(WeightStore(Path(sys.argv[1])).fetch(Weights('tiny', (file,)))[0].stat().st_size)"
    )
    command = [sys.executable, "-c", program, str(tmp_path), f"http://{hub.host}/slow", f"sha256:{SHA256}"]
    root = Path(__file__).parents[3]
    processes = [
        subprocess.Popen(command, cwd=root, env=os.environ | {"PYTHONPATH": str(root)}, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    assert [int(process.communicate(timeout=30)[0].split()[-1]) for process in processes] == [len(CONTENT)] * 2
    assert hub.asked.count("GET /slow") == 1


def test_the_models_directory_comes_before_the_package(store: WeightStore) -> None:
    shipped = at(None, package=("pytest", "pytest/__init__.py"))
    assert store.availability(shipped).present
    assert "Python package pytest" in store.availability(shipped).reason
    (store.root / "family").mkdir(parents=True)
    (store.root / "family/tiny.bin").write_bytes(b"mine")
    assert store.fetch(shipped) == (store.root / "family/tiny.bin",)
    assert "models directory" in store.availability(shipped).reason


def test_a_package_that_is_not_installed_is_named(store: WeightStore) -> None:
    answer = store.availability(at(None, package=("no-such-distribution", "weights.bin")))
    assert not answer.available
    assert "install the Python package no-such-distribution" in answer.reason


def test_a_damaged_file_in_the_models_directory_is_reported(hub: Hub, store: WeightStore) -> None:
    (store.root / "family").mkdir(parents=True)
    (store.root / "family/tiny.bin").write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsMissingError, match=r"damaged or another file .* delete it from family/"):
        store.fetch(hub.weights("good"))


def test_no_hub_is_asked_offline(hub: Hub, tmp_path: Path) -> None:
    store = WeightStore(tmp_path, offline=True)
    assert "offline mode is on" in store.availability(hub.weights("good")).reason
    with pytest.raises(WeightsMissingError, match="offline mode is on"):
        store.fetch(hub.weights("good"))
    assert hub.asked == []


def test_a_models_directory_that_cannot_be_made_is_reported(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = WeightStore(tmp_path / "file", hub_timeout=TIMEOUT)
    assert store.availability(hub.weights("good")).available
    with pytest.raises(WeightsMissingError, match="models directory cannot be written"):
        store.fetch(hub.weights("good"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: WeightFile("../outside.bin"),
        lambda: WeightFile("/etc/passwd"),
        lambda: WeightFile("a.bin", checksum="md5:00"),
    ],
)
def test_invalid_entries_are_programming_errors(make: Callable[[], WeightFile]) -> None:
    with pytest.raises(ValueError, match="not a"):
        make()
