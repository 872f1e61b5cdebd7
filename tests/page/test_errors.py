"""The gateway logs errors of the page."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.suite.running import ROOT, free_ports

THROW = """
setTimeout(() => { throw new TypeError("thrown by a test") });
void Promise.reject(new Error("left by a test"));
"""


@pytest.fixture
def gateway(browser: Browser, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Address and log of a gateway without services: the page needs none to load."""
    (port,) = free_ports(1)
    log = tmp_path / "log"
    environment = {
        **os.environ,
        "PYTHONPATH": "protos/gen",
        "STEMTUBE_DATA_DIR": str(tmp_path),
        "STEMTUBE_GATEWAY__LISTEN": f"127.0.0.1:{port}",
        "STEMTUBE_GATEWAY__HEALTH_LISTEN": "",
        "STEMTUBE_LOG__FORMAT": "json",
    }
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", "gateway"], cwd=ROOT, env=environment, stderr=output)
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: answers(f"{url}/healthz"))
        yield url, log
    finally:
        process.terminate()
        process.wait(20)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False


def until(condition: object) -> None:
    give_up = time.monotonic() + 60
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < give_up
        time.sleep(0.1)


def test_uncaught_errors_are_reported_with_page_and_browser(browser: Browser, gateway: tuple[str, Path]) -> None:
    url, log = gateway
    page = browser.new_page()
    page.goto(f"{url}/account?secret=1")
    for _ in range(2):
        page.evaluate(THROW)

    def reported() -> list[dict[str, str]]:
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == "page error" and "by a test" in line["message"]]

    until(lambda: len(reported()) == 2)
    page.close()
    assert sorted((line["kind"], line["message"]) for line in reported()) == [
        ("error", "TypeError: thrown by a test"),
        ("rejection", "Error: left by a test"),
    ]
    for line in reported():
        assert (line["page"], line["level"], line["service"]) == ("/account", "warning", "gateway")
        assert "Chrome" in line["agent"]
        assert line["thrown_at"]
    assert "secret" not in log.read_text()
