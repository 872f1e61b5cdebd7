"""Traces: where a request has been, with the jobs that came of it, and how long each place took.

A span is one piece of work with a beginning and an end; spans know what they are part of, across processes by W3C's
`traceparent`. They go to a collector by OTLP (`otlp`, which needs the extra `tracing`). Without a collector in the
settings nothing of OpenTelemetry is imported, and a span is one comparison.
"""

import contextlib
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Literal, Protocol

from services.common.config import TracingSettings
from services.common.errors import PreconditionError

Kind = Literal["internal", "server", "producer", "consumer"]
Value = str | int | float | bool


class Span(Protocol):
    """A piece of work that goes on."""

    def set(self, **facts: Value) -> None:
        """Adds facts."""
        ...

    def fail(self, reason: str) -> None:
        """Says that the work failed."""
        ...


class Tracer(Protocol):
    """Makes spans and sends them off."""

    def span(self, name: str, kind: Kind, parent: str, facts: dict[str, Value]) -> AbstractContextManager[Span]:
        """A span, for as long as the context lasts."""
        ...

    def traceparent(self) -> str:
        """The present span for other processes; empty if there is none."""
        ...

    def trace_id(self) -> str:
        """The trace of the present span; empty if there is none."""
        ...

    def close(self) -> None:
        """Sends off what has not been sent."""
        ...


class _NoSpan:
    def set(self, **facts: Value) -> None:
        pass

    def fail(self, reason: str) -> None:
        pass


NO_SPAN: AbstractContextManager[Span] = contextlib.nullcontext(_NoSpan())
"""What is not to be seen in any trace."""
# Of the process, as logging is: spans are made where nobody could pass a tracer on.
_tracer: Tracer | None = None
_settings = TracingSettings()


def configure_tracing(settings: TracingSettings, service: str) -> None:
    """Has this process send traces, or not.

    Args:
        settings: where to, and how many.
        service: this process's name.

    Raises:
        PreconditionError: the extra `tracing` is not installed (reason NO_TRACING).
    """
    global _settings, _tracer
    if _tracer:
        _tracer.close()
    _settings, _tracer = settings, None
    if settings.otlp_url:
        try:
            otlp = import_module("services.common.observe.otlp")
        except ModuleNotFoundError as error:
            raise PreconditionError(
                f"Traces need a package that is not installed ({error.name}): pip install 'stemtube[tracing]', or set "
                "no STEMTUBE_TRACING__OTLP_URL.",
                "NO_TRACING",
            ) from error
        _tracer = otlp.OtlpTracer(settings, service)


def present_settings() -> TracingSettings:
    """What this process was configured with, for its children."""
    return _settings


def span(name: str, *, kind: Kind = "internal", parent: str = "", **facts: Value) -> AbstractContextManager[Span]:
    """A span, part of the present one, for as long as the context lasts; it has failed if an exception leaves it.

    Args:
        name: of the kind of work; what differs from time to time is a fact.
        kind: of the work.
        parent: `traceparent` of the span in another process that it is part of.
        facts: what else is known.
    """
    return _tracer.span(name, kind, parent, facts) if _tracer else NO_SPAN


def traceparent() -> str:
    """The present span for other processes, as W3C's Trace Context writes it; empty if there is none."""
    return _tracer.traceparent() if _tracer else ""


def trace_id() -> str:
    """The trace of the present span, 32 hexadecimal digits; empty if there is none."""
    return _tracer.trace_id() if _tracer else ""


def close() -> None:
    """Sends off what has not been sent; may take some seconds if the collector does not answer."""
    if _tracer:
        _tracer.close()
