"""Traces: where a request has been, with the jobs that came of it, and how long each place took.

A span is one piece of work with a beginning and an end; spans know what they are part of, across processes by W3C's
`traceparent`. Where a collector is set, OpenTelemetry's SDK sends them to it (`otlp`, which needs the extra `tracing`).
Elsewhere the SDK is not imported, and a span is one comparison.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from importlib import import_module

from opentelemetry.trace import INVALID_SPAN, StatusCode, Tracer, format_trace_id, get_current_span
from opentelemetry.trace import Span as Span
from opentelemetry.trace import SpanKind as SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from services.common.config import TracingSettings
from services.common.errors import PreconditionError

NO_SPAN: AbstractContextManager[Span] = contextlib.nullcontext(INVALID_SPAN)
"""For work that no trace shows."""
_PROPAGATOR = TraceContextTextMapPropagator()

# Of the process, as logging is: spans are made where nobody could pass a tracer on. Not OpenTelemetry's own provider
# of the process, which can be set once only.
_tracer: Tracer | None = None
_shut_down: Callable[[], None] | None = None
_settings = TracingSettings()


def configure_tracing(settings: TracingSettings, service: str) -> None:
    """Has this process send traces, or not.

    Args:
        settings: where to, and how many.
        service: this process's name.

    Raises:
        PreconditionError: the extra `tracing` is not installed (reason NO_TRACING).
    """
    global _settings, _tracer, _shut_down
    close()
    _settings, _tracer, _shut_down = settings, None, None
    if settings.otlp_url:
        try:
            otlp = import_module("services.common.observe.otlp")
        except ModuleNotFoundError as error:
            raise PreconditionError(
                f"Traces need a package that is not installed ({error.name}): pip install 'stemtube[tracing]', or set "
                "no STEMTUBE_TRACING__OTLP_URL.",
                "NO_TRACING",
            ) from error
        provider = otlp.create_provider(settings, service)
        _tracer, _shut_down = provider.get_tracer("stemtube"), provider.shutdown


def present_settings() -> TracingSettings:
    """What this process was configured with, for its children."""
    return _settings


def span(
    name: str, *, kind: SpanKind = SpanKind.INTERNAL, parent: str = "", **attributes: AttributeValue
) -> AbstractContextManager[Span]:
    """A span, part of the present one, for as long as the context lasts; it has failed if an exception leaves it.

    Args:
        name: of the kind of work; what differs from time to time is an attribute.
        kind: of the work.
        parent: `traceparent` of the span in another process that it is part of.
        attributes: what else is known.
    """
    return _span(_tracer, name, kind, parent, attributes) if _tracer else NO_SPAN


@contextlib.contextmanager
def _span(
    tracer: Tracer, name: str, kind: SpanKind, parent: str, attributes: dict[str, AttributeValue]
) -> Iterator[Span]:
    outside = _PROPAGATOR.extract({"traceparent": parent}) if parent else None
    with tracer.start_as_current_span(
        name, outside, kind, attributes, record_exception=False, set_status_on_exception=False
    ) as made:
        try:
            yield made
        except (asyncio.CancelledError, GeneratorExit):
            made.set_attribute("cancelled", True)
            raise
        except Exception as error:
            # Not its text, which may hold what is no business of a collector's.
            mark_failed(made, getattr(error, "reason", type(error).__name__))
            raise


def mark_failed(failed: Span, reason: str) -> None:
    """Says that the work of a span failed."""
    failed.set_status(StatusCode.ERROR, reason)


def traceparent() -> str:
    """The present span for other processes, as W3C's Trace Context writes it; empty if there is none."""
    headers: dict[str, str] = {}
    _PROPAGATOR.inject(headers)
    return headers.get("traceparent", "")


def trace_id() -> str:
    """The trace of the present span, 32 hexadecimal digits; empty if there is none."""
    present = get_current_span().get_span_context()
    return format_trace_id(present.trace_id) if present.is_valid else ""


def close() -> None:
    """Sends what has not been sent; may take some seconds if the collector does not answer."""
    if _shut_down:
        _shut_down()
