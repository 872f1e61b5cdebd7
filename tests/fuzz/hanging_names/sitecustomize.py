"""Makes look-ups of names below hangs.test hang. Python imports this at its start if its folder is in PYTHONPATH."""

import socket
import time
from typing import Any

HANG_SECONDS = 20.0

_look_up = socket.getaddrinfo


def _hanging(host: Any, *arguments: Any, **options: Any) -> Any:
    if isinstance(host, str) and host.endswith(".hangs.test"):
        time.sleep(HANG_SECONDS)
    return _look_up(host, *arguments, **options)


socket.getaddrinfo = _hanging
