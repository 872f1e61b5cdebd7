"""A song to fetch."""

from pathlib import Path

import pytest

from tests.common.audio_files import music, with_soundfile


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return with_soundfile(tmp_path / "song.flac", music(20, seed=5))
