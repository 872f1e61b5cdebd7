"""Traces: the path of a request and its jobs through the processes, with the time of each step.

A span is one piece of work with a beginning, an end and a parent span; W3C's `traceparent` names a parent in another
process. If a collector is set, OpenTelemetry's SDK sends the spans to it (`otlp`, which needs the extra `tracing`).
Otherwise the SDK is not imported, and a span costs one comparison.
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
"""For work that is not traced."""
_PROPAGATOR = TraceContextTextMapPropagator()

# Global, like logging, because a tracer cannot be passed to every place that makes spans. OpenTelemetry's own global
# provider is not used, because it can be set only once.
_tracer: Tracer | None = None
_shut_down: Callable[[], None] | None = None
_settings = TracingSettings()


def configure_tracing(settings: TracingSettings, service: str) -> None:
    """Turns tracing on or off for this process.

    Args:
        settings: the collector, and the share of traces.
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
    """The settings of this process, for its children."""
    return _settings


def span(
    name: str, *, kind: SpanKind = SpanKind.INTERNAL, parent: str = "", **attributes: AttributeValue
) -> AbstractContextManager[Span]:
    """A span of the context, below the present one; it is marked as failed if an exception leaves the context.

    Args:
        name: the kind of work, always the same; put details into attributes.
        kind: OpenTelemetry's kind of span.
        parent: `traceparent` of the parent span, if that is in another process.
        attributes: further facts.
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
            # Not the error's text, which may be private.
            mark_failed(made, getattr(error, "reason", type(error).__name__))
            raise


def mark_failed(failed: Span, reason: str) -> None:
    """Marks a span as failed."""
    failed.set_status(StatusCode.ERROR, reason)


def traceparent() -> str:
    """The present span for other processes, in the format of W3C Trace Context; empty if there is none."""
    headers: dict[str, str] = {}
    _PROPAGATOR.inject(headers)
    return headers.get("traceparent", "")


def trace_id() -> str:
    """The trace of the present span, 32 hexadecimal digits; empty if there is none."""
    present = get_current_span().get_span_context()
    return format_trace_id(present.trace_id) if present.is_valid else ""


def close() -> None:
    """Sends the remaining spans; may take some seconds if the collector does not answer."""
    if _shut_down:
        _shut_down()
