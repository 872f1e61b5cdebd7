"""Sends spans to a collector with OpenTelemetry's SDK (OTLP over HTTP); loaded only if tracing is on."""

import logging
from collections.abc import Sequence

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_NAMESPACE, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from services.common.config import TracingSettings

log = structlog.get_logger(__name__)

# A child process may be ended soon after its task, so its spans are sent early.
SEND_EVERY_MS = 500
# A process that ends waits no longer than this for a collector that does not answer.
SEND_SECONDS = 2.0


class _Exporter(OTLPSpanExporter):
    """Logs once that the collector is away; the SDK would log it twice for every batch."""

    _is_away = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        was_away, self._is_away = self._is_away, result is not SpanExportResult.SUCCESS
        if self._is_away and not was_away:
            log.warning("traces are dropped: the collector does not take them", url=self._endpoint)
        return result


def create_provider(settings: TracingSettings, service: str) -> TracerProvider:
    """Returns a provider that sends this process's spans in the background.

    Args:
        settings: with a collector's address.
        service: the process's name.
    """
    # It also logs an error if a stream that was left in the middle is closed by another task, in another context.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    provider = TracerProvider(
        # The first span of a trace decides whether the trace is kept; the others follow it.
        sampler=ParentBased(TraceIdRatioBased(settings.share)),
        resource=Resource.create({SERVICE_NAME: service, SERVICE_NAMESPACE: "stemtube"}),
        shutdown_on_exit=False,
    )
    exporter = _Exporter(endpoint=f"{settings.otlp_url.rstrip('/')}/v1/traces", timeout=SEND_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=SEND_EVERY_MS))
    return provider
