"""Spans by OpenTelemetry's SDK, sent to a collector by OTLP over HTTP; loaded only where traces are wanted."""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import structlog
from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_NAMESPACE, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from services.common.config import TracingSettings
from services.common.observe.tracing import Kind, Value

log = structlog.get_logger(__name__)

# A child process may be ended when its task has: what it has done is sent off soon.
SEND_EVERY_MS = 500
# A process that ends waits no longer than this for a collector that does not answer.
SEND_SECONDS = 2.0
KINDS: dict[Kind, trace.SpanKind] = {
    "internal": trace.SpanKind.INTERNAL,
    "server": trace.SpanKind.SERVER,
    "producer": trace.SpanKind.PRODUCER,
    "consumer": trace.SpanKind.CONSUMER,
}
_PROPAGATOR = TraceContextTextMapPropagator()


class _Span:
    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self.has_failed = False

    def set(self, **facts: Value) -> None:
        self._span.set_attributes({_attribute(name): value for name, value in facts.items()})

    def fail(self, reason: str) -> None:
        self.has_failed = True
        self._span.set_status(trace.StatusCode.ERROR, reason)


class _Exporter(OTLPSpanExporter):
    """Tells once that the collector is away; the SDK tells it of every batch, twice."""

    _is_away = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        was_away, self._is_away = self._is_away, result is not SpanExportResult.SUCCESS
        if self._is_away and not was_away:
            log.warning("traces are dropped: the collector does not take them", url=self._endpoint)
        return result


class OtlpTracer:
    """The `Tracer` of a process.

    Args:
        settings: with an address.
        service: the process's name.
    """

    def __init__(self, settings: TracingSettings, service: str) -> None:
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        exporter = _Exporter(endpoint=f"{settings.otlp_url.rstrip('/')}/v1/traces", timeout=SEND_SECONDS)
        # What begins a trace decides whether it is kept; all that becomes part of it goes by that.
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(settings.share)),
            resource=Resource.create({SERVICE_NAME: service, SERVICE_NAMESPACE: "stemtube"}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=SEND_EVERY_MS))
        self._tracer = self._provider.get_tracer("stemtube")

    @contextmanager
    def span(self, name: str, kind: Kind, parent: str, facts: dict[str, Value]) -> Iterator[_Span]:
        """See `tracing.span`."""
        outside = _PROPAGATOR.extract({"traceparent": parent}) if parent else None
        attributes = {_attribute(fact): value for fact, value in facts.items()}
        span = self._tracer.start_span(name, context=outside, kind=KINDS[kind], attributes=attributes)
        inside = trace.set_span_in_context(span)
        token = context.attach(inside)
        told = _Span(span)
        try:
            yield told
        except (asyncio.CancelledError, GeneratorExit):
            span.set_attribute("cancelled", True)
            raise
        except Exception as error:
            if not told.has_failed:
                # Not its text, which may hold what is no business of a collector's.
                told.fail(getattr(error, "reason", type(error).__name__))
            raise
        finally:
            span.end()
            # A stream that was left in the middle is closed by another task, in another context.
            if context.get_current() is inside:
                context.detach(token)

    def traceparent(self) -> str:
        """See `tracing.traceparent`."""
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier)
        return carrier.get("traceparent", "")

    def trace_id(self) -> str:
        """See `tracing.trace_id`."""
        present = trace.get_current_span().get_span_context()
        return trace.format_trace_id(present.trace_id) if present.is_valid else ""

    def close(self) -> None:
        """See `tracing.close`."""
        self._provider.shutdown()


def _attribute(fact: str) -> str:
    """OpenTelemetry's conventions have dots, which Python's keywords cannot."""
    return fact.replace("__", ".")
