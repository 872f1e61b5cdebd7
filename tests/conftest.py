import gc
import os
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

# As in the analysis worker (services/analysis/worker.py), each process of the tests keeps librosa's compiled functions
# in its own folder, together with the suite that it starts.
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "main")
os.environ["NUMBA_CACHE_DIR"] = str(Path(__file__).parents[1] / ".pytest_cache" / f"numba-{WORKER}")


# All tests of the page share a browser, a suite and a song; those of the analysis share librosa's compiled functions.
TOGETHER = ("tests/page/", "tests/analysis/")
# The longest tests run first, so that short ones fill the time until all processes have ended.
FIRST = (*TOGETHER, "tests/suite/", "tests/fuzz/", "tests/cli/", "tests/download/", "tests/separation/")


class _ByFile(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """Runs all tests of a file, and of some folders, in one process."""

    def _split_scope(self, nodeid: str) -> str:
        folder = next(filter(nodeid.startswith, TOGETHER), "")
        return folder or str(super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    """Takes part in `--dist loadfile` alone."""
    return _ByFile(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the folders in the order of `FIRST`."""
    ranks = {folder: rank for rank, folder in enumerate(FIRST)}
    items.sort(key=lambda item: next((ranks[folder] for folder in FIRST if item.nodeid.startswith(folder)), len(FIRST)))


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Collects garbage after each file, and then leaves all objects out of later collections.

    These took a second each once a process had loaded torch and a song. A process also died in one, of an object that
    native code had damaged: such a death now comes in the file that caused it.
    """
    if nextitem is None or nextitem.path != item.path:
        gc.collect()
        gc.freeze()
