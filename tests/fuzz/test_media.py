"""Damaged files and old results are read or refused. The inputs are the same in each run; `make fuzz` has others."""

import os
import time
from pathlib import Path

from tests.fuzz import containers, imports, media
from tests.fuzz.findings import Tally


def test_every_kind_of_file_is_readable_before_it_is_damaged() -> None:
    assert {name: media.verdict(content) for name, content in media.originals().items()} == dict.fromkeys(
        media.KINDS, "decoded"
    )


def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    tally = Tally(tmp_path)
    verdicts = media.fuzz(7, 600, tally)
    assert tally.found == []
    # The inputs reach the decoders and cause every kind of refusal.
    assert verdicts["decoded"] > 100
    assert {"NOT_AUDIO", "NO_AUDIO_STREAM", "NO_SAMPLES", "TRUNCATED", "CORRUPT"} < set(verdicts)


def test_damaged_containers_are_read_in_the_length_that_ffmpeg_decodes_or_refused_as_cut_off(tmp_path: Path) -> None:
    tally = Tally(tmp_path)
    verdicts = containers.fuzz(7, 200, tally)
    assert tally.found == []
    assert verdicts["decoded"] > 120


def test_crashes_and_hangs_of_the_reading_process_are_counted(tmp_path: Path) -> None:
    tally = Tally(tmp_path)
    media.fuzz(7, 1, tally, media.Reader(die))
    media.fuzz(7, 1, tally, media.Reader(sleep, 0.1))
    assert str(tally) == "inputs=2 crashes=1 5xx=0 hangs=1"
    assert len(list(tmp_path.iterdir())) == 4


def die(_content: bytes) -> str:
    os.abort()


def sleep(_content: bytes) -> str:
    time.sleep(60)
    return "decoded"


def test_old_results_of_any_content_are_read_or_refused(tmp_path: Path) -> None:
    tally = Tally(tmp_path)
    imports.fuzz(7, 60, tally)
    assert tally.found == []
