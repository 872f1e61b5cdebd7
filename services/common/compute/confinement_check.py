"""Checks at start whether this machine can confine a decoder.

The check runs in its own process, since confinement cannot be undone. It needs neither NumPy nor PyAV, which are not
installed in gateways.
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
# It answers through an open pipe, because it cannot open anything once it is confined.
_PROGRAM = """
import os
from services.common.compute.confinement import confine
os.write(1, confine({}, {}).encode())
os._exit(0)
"""


async def expect_confinement(settings: DecoderSettings) -> None:
    """Logs what this machine cannot limit. Processes that decode call it before they are ready.

    Raises:
        PreconditionError: something cannot be limited and `require_confinement` is set (reason DECODER_UNCONFINED).
    """
    missing = await asyncio.to_thread(missing_confinement, settings)
    if missing and settings.require_confinement:
        raise PreconditionError(
            f"Decoders cannot be confined here ({missing}). STEMTUBE_DECODER__REQUIRE_CONFINEMENT=false decodes "
            "untrusted files without these limits.",
            "DECODER_UNCONFINED",
        )
    if missing:
        log.warning("decoders are confined in part", detail=missing)


def missing_confinement(settings: DecoderSettings) -> str:
    """What this machine cannot limit, as a text; empty if it can limit everything. Blocks."""
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
