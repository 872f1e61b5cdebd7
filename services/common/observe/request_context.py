"""Ids that follow a request from the click through RPCs and jobs to the worker; only for logs and traces.

The ids of request and track are structlog context variables, so every log line has them.
"""

import re
from collections.abc import Mapping

import structlog

from services.common.observe import tracing

TRACE_KEY = "traceparent"
KEYS = {"request": "x-request-id", "track_id": "x-track-id"}
"""gRPC metadata by name in log lines."""

_DECENT = re.compile(r"[!-~]{1,64}")


def is_decent(text: str) -> bool:
    """Whether a text can be an id: 1 to 64 printable ASCII characters, which gRPC metadata also require."""
    return bool(_DECENT.fullmatch(text))


def ids() -> dict[str, str]:
    """The ids of the present context, by name in log lines."""
    bound = structlog.contextvars.get_contextvars()
    return {name: text for name in KEYS if is_decent(text := str(bound.get(name, "")))}


def metadata() -> tuple[tuple[str, str], ...]:
    """The present context as metadata of an RPC."""
    trace = tracing.traceparent()
    return (*((KEYS[name], text) for name, text in ids().items()), *(((TRACE_KEY, trace),) if trace else ()))


def bind(metadata: Mapping[str, str]) -> None:
    """Takes the ids in an RPC's metadata into the present context."""
    values = {name: metadata.get(key, "") for name, key in KEYS.items()}
    structlog.contextvars.bind_contextvars(**{name: text for name, text in values.items() if is_decent(text)})


def origin() -> dict[str, str]:
    """The present context, to be stored with a job."""
    trace = tracing.traceparent()
    return ids() | ({TRACE_KEY: trace} if trace else {})


def bind_origin(origin: Mapping[str, str]) -> str:
    """Takes the ids stored with a job into the present context; returns the parent span of the job."""
    structlog.contextvars.bind_contextvars(**{name: origin[name] for name in KEYS if name in origin})
    return origin.get(TRACE_KEY, "")
