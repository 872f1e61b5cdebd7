"""Checks, before the first song comes, whether this machine can confine a decoder.

In a process of its own, as there is no way back. Needs neither NumPy nor PyAV, which a gateway does without.
"""

import asyncio
import os
import subprocess
import sys

import structlog

from services.common.config import DecoderSettings
from services.common.errors import PreconditionError

log = structlog.get_logger(__name__)

CHECK_SECONDS = 60.0
# Its answer goes to a pipe that is open: it opens nothing once it is confined.
_PROGRAM = """
import os
from services.common.compute.confinement import confine
os.write(1, confine({}, {}).encode())
os._exit(0)
"""


async def expect_confinement(settings: DecoderSettings) -> None:
    """Tells what this machine leaves unlimited; a process that decodes calls it before it is ready.

    Raises:
        PreconditionError: something is left, and `require_confinement` is set (reason DECODER_UNCONFINED).
    """
    missing = await asyncio.to_thread(missing_confinement, settings)
    if missing and settings.require_confinement:
        raise PreconditionError(
            f"Decoders cannot be confined here ({missing}). STEMTUBE_DECODER__REQUIRE_CONFINEMENT=false decodes "
            "strangers' files all the same.",
            "DECODER_UNCONFINED",
        )
    if missing:
        log.warning("decoders are confined in part", detail=missing)


def missing_confinement(settings: DecoderSettings) -> str:
    """A text that names what stays unlimited on this machine; empty if nothing. Blocks."""
    try:
        ended = subprocess.run(
            [sys.executable, "-P", "-s", "-c", _PROGRAM.format(settings.memory_mib * 2**20, settings.cpu_seconds)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=CHECK_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"a process could not be confined: {error}"
    if ended.returncode:
        return f"a process that was to be confined ended with status {ended.returncode}"
    return ended.stdout.decode(errors="replace")
