"""A song to fetch."""

from pathlib import Path

import pytest

from songs.small_songs import music
from tests.common.audio_files import with_soundfile


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return with_soundfile(tmp_path / "song.flac", music(20, seed=5))
