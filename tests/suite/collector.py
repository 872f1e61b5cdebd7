"""A collector of traces: receives OTLP over HTTP and keeps the spans."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue


@dataclass(frozen=True)
class Span:
    process: str
    name: str
    trace: str
    id: str
    parent: str
    facts: dict[str, str]
    failed: bool
    reason: str
    events: int


def _text_of(value: AnyValue) -> str:
    kind = value.WhichOneof("value")
    return str(getattr(value, kind)) if kind else ""


@dataclass
class Collector:
    url: str
    spans: dict[str, Span] = field(default_factory=dict)

    def take(self, body: bytes) -> None:
        for of_process in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = {each.key: each.value.string_value for each in of_process.resource.attributes}
            for span in (span for scope in of_process.scope_spans for span in scope.spans):
                facts = {each.key: _text_of(each.value) for each in span.attributes}
                trace, own, parent = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
                failed = span.status.code == span.status.STATUS_CODE_ERROR
                told = (facts, failed, span.status.message, len(span.events))
                self.spans[own] = Span(resource["service.name"], span.name, trace, own, parent, *told)

    def named(self, name: str, **facts: str) -> list[Span]:
        found = [span for span in list(self.spans.values()) if span.name == name]
        return [span for span in found if facts.items() <= span.facts.items()]

    def path_to(self, span: Span) -> list[tuple[str, str]]:
        """Process and name of a span and of its ancestors that have arrived, the outermost first."""
        path = [(span.process, span.name)]
        while span.parent in self.spans:
            span = self.spans[span.parent]
            path.append((span.process, span.name))
        return path[::-1]


@contextmanager
def running_collector() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/traces" and self.headers["Content-Type"] == "application/x-protobuf":
                collector.take(body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
