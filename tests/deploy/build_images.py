"""Runs the steps of the Dockerfile's stages without Docker: `make images-check [IMAGES="gateway auth"]`.

For each image: a fresh virtual environment gets what the stages install, by their own command lines; then the image's
command runs in it, in an empty folder, until it answers /healthz, and must end well at SIGTERM.
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from tests.deploy.extras import PACKAGES, ROOT
from tests.deploy.images import DOCKER, stages
from tests.suite.running import free_ports

START_SECONDS = 120.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("images", nargs="*", metavar="IMAGE", help=f"of {', '.join(PACKAGES)}; all unless given")
    images = parser.parse_args().images or list(PACKAGES)
    with tempfile.TemporaryDirectory() as folder:
        wheels = Path(folder) / "wheels"
        _run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels, ROOT])
        (wheel,) = wheels.iterdir()
        for image in images:
            started = time.monotonic()
            place = Path(folder) / image
            _build(image, place, wheel)
            _try(image, place)
            print(f"{image}: built and started, {time.monotonic() - started:.0f} s", flush=True)
            shutil.rmtree(place)


def _build(image: str, place: Path, wheel: Path) -> None:
    """The stages `builder`, `IMAGE-packages` and `IMAGE`; the virtual environment is at PLACE/app."""
    _, found = stages((DOCKER / "Dockerfile").read_text())
    source = place / "build"
    source.mkdir(parents=True)
    for name in found["builder"].arguments("COPY")[0].split()[:-1]:
        shutil.copy(ROOT / name, source)
    for name in ("README.md", "LICENSE"):
        (source / name).touch()
    _run([sys.executable, "-m", "venv", place / "app"])
    environment = {**os.environ, "PATH": f"{place / 'app' / 'bin'}:{os.environ['PATH']}", "PIP_QUIET": "1"}
    (packages,) = found[f"{image}-packages"].arguments("RUN")
    (own,) = found[image].arguments("RUN")
    for command in (packages, own.replace("/wheels/*.whl", str(wheel))):
        words: list[str | Path] = [word for word in shlex.split(command) if not word.startswith("--mount=")]
        _run(words, cwd=source, env=environment)


def _try(image: str, place: Path) -> None:
    _, found = stages((DOCKER / "Dockerfile").read_text())
    program, *arguments = json.loads(found[image].arguments("CMD")[0])
    port, health = free_ports(2)
    empty = place / "empty"
    empty.mkdir()
    prefix = f"STEMTUBE_{image.upper()}__"
    environment = {
        "PATH": os.environ["PATH"],
        "STEMTUBE_DATA_DIR": str(place / "data"),
        "STEMTUBE_OFFLINE": "true",
        f"{prefix}LISTEN": f"127.0.0.1:{port}",
        f"{prefix}HEALTH_LISTEN": f"127.0.0.1:{health}",
    }
    with (place / "log").open("wb") as log:
        command = [place / "app" / "bin" / program, *arguments]
        process = subprocess.Popen(command, cwd=empty, env=environment, stderr=log, stdout=log)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _lives(health):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{image} does not start:\n{(place / 'log').read_text()[-4000:]}")
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        if status := process.wait(60):
            sys.exit(f"{image} ended with status {status}:\n{(place / 'log').read_text()[-4000:]}")
    finally:
        process.kill()
        process.wait()


def _lives(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2):
            return True
    except OSError:
        return False


def _run(command: list[str | Path], **options: object) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{(done.stdout + done.stderr)[-4000:]}")


if __name__ == "__main__":
    main()
