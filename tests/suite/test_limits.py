"""All processes have the same limits: none refuses a file that another one has accepted."""

from pathlib import Path

import pytest

from gateway.config import GatewaySettings
from services.analysis.config import AnalysisSettings
from services.analysis.worker import AnalysisWork
from services.common.config import load
from services.download.config import DownloadSettings
from services.separation.config import SeparationSettings
from services.separation.worker import SeparationWork


@pytest.fixture(autouse=True)
def raised(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STEMTUBE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("STEMTUBE_LIMIT__MAX_SECONDS", "7200")
    monkeypatch.setenv("STEMTUBE_LIMIT__MAX_BYTES", "3000000000")


def test_the_gateway_and_the_library_accept_files_up_to_the_limit() -> None:
    assert load(GatewaySettings).limit.max_bytes == 3_000_000_000
    limits = load(DownloadSettings).limits
    assert (limits.max_seconds, limits.max_bytes) == (7200, 3_000_000_000)


def test_workers_accept_songs_up_to_the_limit_and_stems_of_any_size() -> None:
    for limits in (SeparationWork(load(SeparationSettings))._limits, AnalysisWork(load(AnalysisSettings))._limits):
        assert limits.max_seconds == 7200
        assert limits.max_bytes > 2**60
