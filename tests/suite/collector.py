"""A collector of traces: takes OTLP over HTTP and keeps the spans."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Span:
    process: str
    name: str
    trace: str
    id: str
    parent: str
    facts: dict[str, str]
    failed: bool


@dataclass
class Collector:
    url: str = ""
    spans: dict[str, Span] = field(default_factory=dict)

    async def take(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/x-protobuf"
        for of_process in ExportTraceServiceRequest.FromString(await request.read()).resource_spans:
            resource = {each.key: each.value.string_value for each in of_process.resource.attributes}
            for span in (span for scope in of_process.scope_spans for span in scope.spans):
                facts = {each.key: str(getattr(each.value, each.value.WhichOneof("value"))) for each in span.attributes}
                ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
                failed = span.status.code == span.status.STATUS_CODE_ERROR
                self.spans[ids[1]] = Span(resource["service.name"], span.name, *ids, facts, failed)
        return web.Response()

    def above(self, span: Span) -> list[Span]:
        """What a span is part of, nearest first."""
        found = []
        while span.parent:
            span = self.spans[span.parent]
            found.append(span)
        return found


@asynccontextmanager
async def running_collector() -> AsyncIterator[Collector]:
    collector = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield collector
    finally:
        await runner.cleanup()
