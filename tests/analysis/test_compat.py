"""The compatibility modules work, leave nothing behind, and are still needed: a test fails once upstream is fixed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.analysis.config import AnalysisSection, AnalysisSettings
from services.analysis.worker import keep_compiled_functions_apart


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120)


def test_import_madmom_restores_the_metadata_functions() -> None:
    done = python(
        "import importlib.metadata as metadata; before = metadata.distribution\n"
        "from services.analysis.compat.madmom_metadata import import_madmom; import_madmom()\n"
        "import madmom; assert metadata.distribution is before; print(madmom.__version__)"
    )
    assert done.stdout.startswith("0."), done.stderr


def test_madmom_still_does_not_import_by_itself() -> None:
    done = python("import madmom")
    assert "PackageNotFoundError" in done.stderr, "madmom imports by itself now: delete compat/madmom_metadata.py"


def test_import_msaf_restores_scipy() -> None:
    done = python(
        "from services.analysis.compat.msaf_scipy import import_msaf; import_msaf()\n"
        "import msaf, scipy; assert not hasattr(scipy, 'inf'); print(msaf.__version__)"
    )
    assert done.stdout.startswith("0."), done.stderr


def test_msaf_still_does_not_import_by_itself() -> None:
    done = python("import msaf")
    assert "cannot import name 'inf'" in done.stderr, "msaf imports by itself now: delete compat/msaf_scipy.py"


def test_each_worker_of_a_machine_keeps_its_own_compiled_functions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = set()
    for port in (9094, 9194):
        monkeypatch.delenv("NUMBA_CACHE_DIR")
        section = AnalysisSection(health_listen=f"127.0.0.1:{port}")
        keep_compiled_functions_apart(AnalysisSettings(data_dir=tmp_path, analysis=section))
        folders.add(os.environ["NUMBA_CACHE_DIR"])
    assert len(folders) == 2
    assert all(folder.startswith(str(tmp_path)) for folder in folders)
