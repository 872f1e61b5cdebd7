"""Untrusted files are decoded in a process that can do nothing else; its end is only an error of the file."""

import os
import platform
import re
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from services.common.audio import Limits, Sandbox, decode, inspect, transcode
from services.common.compute import confinement
from services.common.errors import Code, InvalidInputError, StemTubeError, StoppedError, UnavailableError
from songs.small_songs import music
from tests.common.audio import hostile_decoders as hostile
from tests.common.audio.test_bad_input import WHOLE_FILES
from tests.common.audio_files import flac_of_hours, with_soundfile

LIMITS = Limits(max_seconds=30.0)
FILTERED = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_soundfile(tmp_path_factory.mktemp("sandbox") / "song.flac", music())


def refusal(song: Path, task: Callable[..., None], **limits: Any) -> StemTubeError:
    """The error for a file that makes its decoder run `task`; checks that no process is left."""
    before = set(psutil.Process().children())
    with pytest.raises(StemTubeError) as caught:
        decode(song, LIMITS, sandbox=Sandbox(**limits, task=task))
    assert set(psutil.Process().children()) == before
    return caught.value


@pytest.mark.parametrize("name", WHOLE_FILES)
def test_every_kind_of_file_gives_the_same_samples_in_a_sandbox(tmp_path: Path, name: str) -> None:
    path = WHOLE_FILES[name](tmp_path / name)
    boxed = inspect(path, LIMITS, sandbox=Sandbox())
    here = inspect(path, LIMITS)
    assert (boxed.info, boxed.content_hash, boxed.loudness_lufs) == (here.info, here.content_hash, here.loudness_lufs)
    assert boxed.peaks.to_bytes() == here.peaks.to_bytes()


def test_decode_and_transcode_work_in_a_sandbox(tmp_path: Path, song: Path) -> None:
    told: list[float] = []
    boxed = decode(song, LIMITS, sample_rate_hz=16_000, channels=1, on_progress=told.append, sandbox=Sandbox())
    assert np.array_equal(boxed, decode(song, LIMITS, sample_rate_hz=16_000, channels=1))
    assert told == sorted(told)
    assert told[-1] == 1.0
    with song.open("rb") as file:
        transcode(file, tmp_path / "song.wav", "wav", sandbox=Sandbox())
    assert np.array_equal(decode(tmp_path / "song.wav", LIMITS), decode(song, LIMITS))


def test_the_decoders_own_refusals_come_through(tmp_path: Path, song: Path) -> None:
    cut = tmp_path / "cut.flac"
    cut.write_bytes(song.read_bytes()[:-20_000])
    with pytest.raises(InvalidInputError) as caught:
        decode(cut, LIMITS, sandbox=Sandbox())
    assert (caught.value.reason, caught.value.message) == ("TRUNCATED", "the file is cut off: its end is missing")
    with pytest.raises(StemTubeError) as too_long:
        decode(flac_of_hours(tmp_path / "bomb.flac", 1.0, declared=False), LIMITS, sandbox=Sandbox())
    assert (too_long.value.code, too_long.value.reason) == (Code.RESOURCE_EXHAUSTED, "TOO_LONG")
    assert too_long.value.metadata == {"max_seconds": "30"}


@pytest.mark.parametrize(
    ("task", "limits"),
    [
        (hostile.spin, {"cpu_seconds": 1}),
        (hostile.hang, {"wall_seconds": 1.0}),
        (hostile.never_listen, {"wall_seconds": 1.0}),
        (hostile.drip, {"wall_seconds": 1.0}),
        (hostile.eat_memory, {"memory_mib": 200}),
    ],
)
def test_a_decoder_that_exceeds_a_limit_is_ended(song: Path, task: Callable[..., None], limits: dict[str, Any]) -> None:
    error = refusal(song, task, **limits)
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "DECODER_LIMIT")


def test_a_song_that_needs_too_much_memory_is_refused(song: Path) -> None:
    with pytest.raises(InvalidInputError) as caught:
        decode(song, LIMITS, sandbox=Sandbox(memory_mib=50))
    assert caught.value.reason == "DECODER_LIMIT"


@pytest.mark.parametrize("task", [hostile.crash, hostile.give_up, hostile.leave, hostile.fail])
def test_a_crash_of_a_decoder_is_an_error_of_the_file(song: Path, task: Callable[..., None]) -> None:
    error = refusal(song, task)
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "DECODER_CRASHED")
    assert "no such thing" not in error.message


@pytest.mark.skipif(not FILTERED, reason="system calls are filtered on Linux only, on two machines")
def test_a_decoder_can_do_nothing_but_decode(song: Path) -> None:
    outcomes = refusal(song, hostile.attempt_everything).metadata
    assert outcomes == dict.fromkeys(hostile.ATTEMPTS, "EPERM")


@pytest.mark.parametrize(
    "task",
    [
        hostile.say_no_json,
        hostile.nest_deeply,
        hostile.say_the_wrong_type,
        hostile.say_no_number,
        hostile.tag_with_half_a_letter,
        hostile.tag_a_book,
        hostile.announce_terabytes,
        hostile.skip_ahead,
        hostile.send_other_channels,
        hostile.send_no_numbers,
        hostile.send_half_a_number,
        hostile.ask_half_a_question,
        hostile.play_for_ever,
        hostile.refuse_with_a_page,
        hostile.refuse_with_another_message,
    ],
)
def test_false_output_of_a_decoder_is_refused(song: Path, task: Callable[..., None]) -> None:
    error = refusal(song, task)
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "DECODER_CRASHED")


def test_a_decoder_has_no_secrets_in_its_environment(song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMTUBE_SERVICE_SECRET", "hush")
    error = refusal(song, hostile.tell_environment)
    assert error.reason == "ENVIRONMENT"
    assert set(error.metadata) <= {"PYTHONPATH", "OPENBLAS_NUM_THREADS", "LD_LIBRARY_PATH", "LC_CTYPE"}


def test_a_caller_can_stop_a_decoder_that_hangs(song: Path) -> None:
    def stop(_done: float) -> None:
        raise StoppedError("enough")

    before = set(psutil.Process().children())
    with pytest.raises(StoppedError):
        decode(song, LIMITS, on_progress=stop, sandbox=Sandbox(task=hostile.hang))
    assert set(psutil.Process().children()) == before


def test_a_decoder_killed_from_outside_is_not_an_error_of_the_file(song: Path) -> None:
    before = set(psutil.Process().children())

    def kill() -> None:
        while not (started := set(psutil.Process().children()) - before):
            time.sleep(0.02)
        started.pop().kill()

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(UnavailableError) as caught:
        decode(song, LIMITS, sandbox=Sandbox(task=hostile.hang))
    thread.join()
    assert caught.value.reason == "DECODER_KILLED"


def test_without_a_filter_limits_prevent_opening_and_writing_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """These limits apply on macOS too."""
    monkeypatch.setattr(confinement, "_filter_system_calls", lambda: "not filtered")
    target = tmp_path / "file"
    with target.open("wb", buffering=0) as file:
        pid = os.fork()
        if pid == 0:
            try:
                assert confinement.confine(2**40, 60) == "not filtered"
                outcomes = hostile.attempt("read a file", "write a file", "connect")
                assert set(outcomes.values()) == {"EMFILE"}
                with pytest.raises(OSError, match="large"):
                    file.write(b"x")
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
    assert target.stat().st_size == 0


@pytest.mark.parametrize(
    ("place", "header", "pattern"),
    [
        (0, "/usr/include/x86_64-linux-gnu/asm/unistd_64.h", r"__NR_(\w+) (\d+)"),
        (1, "/usr/include/asm-generic/unistd.h", r"__NR(?:3264)?_(\w+) (\d+)"),
    ],
)
def test_numbers_of_system_calls_are_those_of_the_kernel(place: int, header: str, pattern: str) -> None:
    if not Path(header).exists():
        pytest.skip("the kernel's headers are not here")
    known = {name: int(number) for name, number in re.findall(pattern, Path(header).read_text())}
    assert {name: numbers[place] for name, numbers in confinement._SYSTEM_CALLS.items()} == {
        name: known[name] for name in confinement._SYSTEM_CALLS
    }
    assert confinement._MACHINES["x86_64" if place == 0 else "aarch64"][2] == known["seccomp"]
