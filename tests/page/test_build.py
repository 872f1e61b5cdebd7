"""Checks of `page/build.py check` that need no npm registry."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

BUILD = Path(__file__).parents[2] / "page" / "build.py"


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("page_build", BUILD)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "_install", lambda: False)
    monkeypatch.setattr(module, "CONSTANTS", tmp_path / "contract.ts")
    return module


@pytest.mark.parametrize(("change", "status"), [("", 0), ("export const MAX_TITLE = 1;\n", 1)])
def test_names_and_limits_that_differ_from_the_contracts_are_found(
    build: ModuleType, capsys: pytest.CaptureFixture[str], change: str, status: int
) -> None:
    build.CONSTANTS.write_text((build.FOLDER / "src/api/contract.ts").read_text() + change)
    assert build.main("check") == status
    assert ("run `page/build.py types`" in capsys.readouterr().err) == bool(status)
