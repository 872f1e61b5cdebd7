import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from gateway.config import GatewaySettings
from services.analysis.config import AnalysisSettings
from services.auth.config import AuthSettings
from services.common.config import PREFIX, Settings, describe, load
from services.download.config import DownloadSettings
from services.separation.config import SeparationSettings

SETTINGS: dict[str, type[Settings]] = {
    "services.auth": AuthSettings,
    "services.download": DownloadSettings,
    "services.separation": SeparationSettings,
    "services.analysis": AnalysisSettings,
    "gateway": GatewaySettings,
}


def known_variables(module: str) -> set[str]:
    """The variables that the process of a module reads: its settings, and the places of further settings."""
    lines = describe(SETTINGS[module])
    return {line.split("=")[0].strip() for line in lines} | {PREFIX + "SECRETS_DIR", PREFIX + "CONFIG"}


@pytest.fixture
def settings_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, Mapping[str, str]], Settings]:
    """Builds the settings of a module's process from an environment."""

    def build(module: str, environment: Mapping[str, str]) -> Settings:
        for name in [name for name in os.environ if name.startswith(PREFIX)]:
            monkeypatch.delenv(name)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv(PREFIX + "SECRETS_DIR", str(tmp_path))
        monkeypatch.chdir(tmp_path)
        return load(SETTINGS[module])

    return build
