import os
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

# As the analysis worker does it for itself (services/analysis/worker.py): each process of the tests, with the suite
# that it starts, keeps librosa's compiled functions in a folder of its own.
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "main")
os.environ["NUMBA_CACHE_DIR"] = str(Path(__file__).parents[1] / ".pytest_cache" / f"numba-{WORKER}")


class _ByFile(LoadFileScheduling):
    """Tests of a file go to one process, and so do all of the page, which share a browser, a suite and a song."""

    def _split_scope(self, nodeid: str) -> str:
        folder = "tests/page/"
        return folder if nodeid.startswith(folder) else str(super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    """Takes part in `--dist loadfile` alone."""
    return _ByFile(config, log) if config.getvalue("dist") == "loadfile" else None
