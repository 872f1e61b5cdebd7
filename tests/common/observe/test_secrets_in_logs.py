"""Logs hide secrets and local variables."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_logs_hide_secrets_and_local_variables(log_format: str) -> None:
    program = f"""
import logging, structlog
from services.common.config import LogSettings
from services.common.observe.telemetry import configure_logging

configure_logging(LogSettings(format="{log_format}"), "tool")
log = structlog.get_logger("here")

def check(password):
    raise RuntimeError("a fault")

log.info("signing in", password="hunter" + "2", refresh_token=b"hunter" + b"2", user="ada")
logging.getLogger("library").warning("from a library")
log.debug("too much")
try:
    check("hunter" + "2")
except RuntimeError:
    log.exception("failed")
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    for expected in ("signing in", "ada", "from a library", "tool", "a fault", "Traceback"):
        assert expected in done.stderr
    assert "too much" not in done.stderr
    # The traceback does not show this program's lines, because the program is an argument and not a file.
    assert "hunter2" not in done.stderr
