"""Nothing is decoded if a decoder cannot be confined, and the process reports that when it starts.

A filter that the children inherit makes the system call fail, as in an older kernel or in a container.
"""

import ctypes
import os
import platform
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from services.common.compute.confinement import can_confine
from services.common.compute.confinement_check import missing_confinement
from services.common.config import DecoderSettings
from songs.small_songs import music
from tests.common.audio_files import with_soundfile

ROOT = Path(__file__).resolve().parents[3]
SECCOMP = {"x86_64": 317, "aarch64": 277}
pytestmark = pytest.mark.skipif(not can_confine(), reason="there are filters on Linux alone")


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return with_soundfile(tmp_path / "song.flac", music())


def refuse_filters() -> None:
    """Makes the system call `seccomp` fail with ENOSYS from now on; this is set up with `prctl`, which still works."""
    load_number, jump_if_equal, give = (0x20, 0, 0, 0), 0x15, 0x06
    program = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            load_number,
            (jump_if_equal, 0, 1, SECCOMP[platform.machine()]),
            (give, 0, 0, 0x00050000 | 38),
            (give, 0, 0, 0x7FFF0000),
        )
    )
    libc = ctypes.CDLL(None, use_errno=True)
    instructions = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("@HP", 4, ctypes.addressof(instructions))
    assert libc.prctl(38, ctypes.c_ulong(1), 0, 0, 0) == 0
    assert libc.prctl(22, ctypes.c_ulong(2), described, 0, 0) == 0


def run_without_filters(tmp_path: Path, *command: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STEMTUBE_")}
    environment |= {"PYTHONPATH": f"{ROOT}:{ROOT / 'protos' / 'gen'}", "STEMTUBE_DATA_DIR": str(tmp_path)}
    begin = (
        "from tests.common.compute.test_confinement_required import refuse_filters; import os, sys; refuse_filters(); "
    )
    return subprocess.run(
        [sys.executable, "-c", begin + "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])", *command],
        env=environment | settings,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_this_machine_confines_decoders_and_requires_it_unless_told_otherwise() -> None:
    assert missing_confinement(DecoderSettings()) == ""
    assert DecoderSettings().require_confinement


@pytest.mark.parametrize(
    "module",
    ["gateway", *(pytest.param(f"services.{name}", marks=pytest.mark.long) for name in ("download", "separation"))],
)
def test_a_process_that_decodes_does_not_start_where_filters_are_refused(tmp_path: Path, module: str) -> None:
    ended = run_without_filters(tmp_path, "-m", module)
    assert ended.returncode == 1
    (line,) = [line for line in ended.stderr.splitlines() if "DECODER_UNCONFINED" in line]
    assert "seccomp says" in line
    assert "Traceback" not in ended.stderr


DECODE = """
import asyncio, sys
from pathlib import Path
from services.common.audio import Sandbox
from services.common.audio.types import Limits
from services.common.config import DecoderSettings
from services.common.compute.confinement_check import expect_confinement
from services.common.errors import PreconditionError

required = sys.argv[1] == "required"
try:
    asyncio.run(expect_confinement(DecoderSettings(require_confinement=required)))
    print("starts")
except PreconditionError as error:
    print("does not start", error.reason)
try:
    with Sandbox(require_confinement=required).reader(Path(sys.argv[2]), Limits()):
        print("decodes")
except PreconditionError as error:
    print("does not decode", error.reason)
"""


@pytest.mark.parametrize(
    ("required", "told"),
    [
        ("required", ["does not start DECODER_UNCONFINED", "does not decode DECODER_UNCONFINED"]),
        ("not required", ["starts", "decodes"]),
    ],
)
def test_nothing_is_decoded_unconfined_unless_that_is_allowed(
    tmp_path: Path, song: Path, required: str, told: list[str]
) -> None:
    ended = run_without_filters(tmp_path, "-c", DECODE, required, str(song))
    lines = [line for line in ended.stdout.splitlines() if line.startswith(("does not", "starts", "decodes"))]
    assert lines == told, ended.stderr
