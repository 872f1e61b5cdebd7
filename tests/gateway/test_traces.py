"""Where traces begin, and how they show failed requests."""

from collections.abc import Callable, Iterator

import pytest

from services.common.config import TracingSettings
from services.common.observe import tracing
from tests.gateway.conftest import Connect
from tests.suite.collector import Collector, running_collector

TRACE = "0af7651916cd43dd8448eb211c80319c"
HEADERS = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
GET_TRACK = "stemtube.download.v1.TrackService/GetTrack"


@pytest.fixture
def sent() -> Iterator[Callable[[], Collector]]:
    """Makes this process, which runs gateway and services, send traces; a call returns all that were sent."""
    with running_collector() as collector:
        tracing.configure_tracing(TracingSettings(otlp_url=collector.url), "here")

        def all_spans() -> Collector:
            tracing.configure_tracing(TracingSettings(), "here")
            return collector

        yield all_spans
        all_spans()


async def test_only_a_trusted_proxy_can_begin_a_trace(connect: Connect, sent: Callable[[], Collector]) -> None:
    behind_proxy, alone = await connect(), await connect(trusted_proxies=())
    for client in (behind_proxy, alone):
        assert await client.refused("GET", "/api/v1/tracks/t1", headers=HEADERS) == (404, "NO_SUCH_TRACK")
    assert await alone.refused("GET", "/api/v1/tracks/%C3%A4") == (404, "NO_SUCH_TRACK")
    await alone.json("GET", "/healthz")
    collector = sent()
    traces = [span.trace for span in collector.named("GET /api/v1/tracks/{track_id}")]
    assert traces.count(TRACE) == 1
    assert len(set(traces)) == 3
    rpcs = collector.named(GET_TRACK)
    assert sorted(rpc.trace for rpc in rpcs) == sorted(traces)
    assert all(rpc.failed for rpc in rpcs)
    assert {(rpc.facts["rpc.response.status_code"], rpc.reason) for rpc in rpcs} == {("NOT_FOUND", "NO_SUCH_TRACK")}
    assert {span.name for span in collector.spans.values()} == {GET_TRACK, "GET /api/v1/tracks/{track_id}"}


async def test_sampled_traces_are_complete(connect: Connect, sent: Callable[[], Collector]) -> None:
    collector = sent()
    tracing.configure_tracing(TracingSettings(otlp_url=collector.url, share=0.0), "here")
    client = await connect(trusted_proxies=())
    await client.refused("GET", "/api/v1/tracks/t1")
    assert not sent().spans
