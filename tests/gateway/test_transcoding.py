"""RPCs over HTTP, derived from the contracts' annotations alone."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from gateway.transcoding.bindings import BadAnnotationError, parse_template
from services.common.errors import (
    AlreadyExistsError,
    Code,
    InvalidInputError,
    LimitExceededError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    StemTubeError,
    UnauthenticatedError,
    UnavailableError,
)
from stemtube.analysis.v1 import music_pb2
from tests.gateway.conftest import Client, Connect
from tests.gateway.suite import token_of, until


async def test_a_body_becomes_the_request_and_the_response_is_protojson(client: Client) -> None:
    status, created = await client.json(
        "POST", "/api/v1/tracks", json={"url": "https://example.org/song", "requestId": "abc"}
    )
    assert status == 200
    assert created["track"]["id"] == "abc"
    assert created["track"]["sourceUrl"] == "https://example.org/song"
    assert created["job"]["job"]["state"] == "JOB_STATE_QUEUED"
    # Zero values are shown, absent messages are not.
    assert created["track"]["durationSeconds"] == 0.0
    assert created["track"]["beats"] == []
    assert "tempo" not in created["track"]


async def test_path_variables_query_parameters_and_methods(client: Client) -> None:
    for name in "abc":
        await client.json("POST", "/api/v1/tracks", json={"url": "https://example.org", "request_id": name})
    status, page = await client.json("GET", "/api/v1/tracks", params={"pageSize": "2"})
    assert (status, [track["id"] for track in page["tracks"]]) == (200, ["a", "b"])
    _, page = await client.json("GET", "/api/v1/tracks", params={"page_size": "2", "page_token": page["nextPageToken"]})
    assert [track["id"] for track in page["tracks"]] == ["c"]
    assert await client.json("DELETE", "/api/v1/tracks/b") == (200, {})
    assert await client.refused("GET", "/api/v1/tracks/b") == (404, "NO_SUCH_TRACK")
    _, processed = await client.json(
        "POST", "/api/v1/tracks/a/process", json={"options": {"separations": [{"model": "htdemucs"}]}}
    )
    assert processed["job"]["trackId"] == "a"
    assert [part["name"] for part in processed["job"]["parts"]] == ["separation:htdemucs"]


async def test_a_path_variable_wins_over_the_body_and_may_hold_any_character(client: Client) -> None:
    track_id = "ü/ %2F?"
    await client.json("POST", "/api/v1/tracks", json={"url": "https://example.org", "requestId": track_id})
    path = "/api/v1/tracks/%C3%BC%2F%20%252F%3F"
    status, content = await client.json("POST", f"{path}/process", json={"trackId": "other"})
    assert (status, content["job"]["trackId"]) == (200, track_id)


async def test_a_large_track_arrives_whole(client: Client) -> None:
    await client.json("POST", "/api/v1/tracks", json={"url": "https://example.org", "requestId": "long"})
    track = client.suite.library.tracks["ann"]["long"]
    track.beats.extend(music_pb2.Beat(time=i / 2, position=i % 4 + 1) for i in range(5000))
    _, content = await client.json("GET", "/api/v1/tracks/long")
    assert content["track"]["beats"][4999] == {"time": 2499.5, "position": 4}


async def test_head_answers_like_get_without_a_body(client: Client) -> None:
    async with client.http.head("/api/v1/tracks") as response:
        assert (response.status, await response.read()) == (200, b"")


BAD_BODIES = {
    "unknown field": b'{"url": "https://example.org", "colour": "red"}',
    "unknown nested field": b'{"url": "https://example.org", "options": {"loud": true}}',
    "wrong type": b'{"url": 5}',
    "not an object": b"[1]",
    "null": b"null",
    "not JSON": b"{url:}",
    "cut off": b'{"url": "https://example',
    "not UTF-8": b'{"url": "\xff"}',
    "half a character": b'{"url": "\\ud800"}',
    "deep": b'{"options":' * 50_000,
    "a name twice": b'{"url": "https://a.example", "url": "https://b.example"}',
    "no number": b'{"options": {"separations": [{"quality": NaN}]}}',
    "huge number": b'{"options": {"separations": [{"quality": 1e999}]}}',
    "very long number": b'{"options": {"separations": [{"quality": ' + b"9" * 5000 + b"}]}}",
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
async def test_a_bad_body_is_refused_by_reason(client: Client, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    assert await client.refused("POST", "/api/v1/tracks", data=body, headers=headers) == (400, "BAD_REQUEST")


@pytest.mark.parametrize(
    "query", ["pageSize=many", "pageSize=99999999999", "colour=red", "pageSize=1&pageSize=2", "pageSize=1&page_size=2"]
)
async def test_a_bad_query_is_refused_by_reason(client: Client, query: str) -> None:
    assert await client.refused("GET", f"/api/v1/tracks?{query}") == (400, "BAD_REQUEST")


async def test_other_http_errors_have_the_same_form(connect: Connect) -> None:
    client = await connect(max_json_bytes=1000)
    assert await client.refused("GET", "/nowhere") == (404, "NO_SUCH_ROUTE")
    assert await client.refused("GET", "/api/v1/tracks/a/b/c") == (404, "NO_SUCH_ROUTE")
    for method in ("PUT", "TRACE"):
        assert await client.refused(method, "/api/v1/tracks") == (405, "METHOD_NOT_ALLOWED")
    assert await client.refused("POST", "/api/v1/tracks", data={"url": "x"}) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert await client.refused("POST", "/api/v1/tracks", json={"url": "x" * 1000}) == (413, "TOO_LARGE")
    assert await client.refused("GET", "/api/v1/jobs/a/watch") == (426, "UPGRADE_REQUIRED")
    unknown = {"Expect": "a miracle"}
    assert await client.refused("GET", "/api/v1/tracks", headers=unknown) == (417, "UNKNOWN_EXPECTATION")
    assert await client.refused("GET", "/nowhere", headers=unknown) == (417, "UNKNOWN_EXPECTATION")
    async with client.http.put("/api/v1/tracks") as response:
        assert set(response.headers["Allow"].split(",")) == {"GET", "HEAD", "POST"}


async def test_a_body_that_stops_arriving_is_refused(connect: Connect) -> None:
    client = await connect(body_idle_seconds=0.1)

    async def body() -> AsyncIterator[bytes]:
        yield b'{"url":'
        await asyncio.sleep(1)

    headers = {"Content-Type": "application/json"}
    assert await client.refused("POST", "/api/v1/tracks", data=body(), headers=headers) == (408, "BODY_TIMEOUT")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidInputError("…", "BAD_URL"), 400),
        (UnauthenticatedError("…", "TOKEN_EXPIRED"), 401),
        (PermissionDeniedError("…", "SERVICE_REQUIRED"), 403),
        (NotFoundError("…", "NO_SUCH_TRACK"), 404),
        (AlreadyExistsError("…", "NAME_TAKEN"), 409),
        (PreconditionError("…", "TRACK_NOT_READY"), 400),
        (LimitExceededError("…", "TOO_MANY_JOBS", limit="3"), 429),
        (LimitExceededError("…", "TOO_LARGE"), 413),
        (LimitExceededError("…", "TOO_LONG"), 413),
        (LimitExceededError("…", "TOO_MANY_CHANNELS"), 413),
        (StemTubeError("…", "ODD"), 500),
    ],
)
async def test_an_error_of_a_service_keeps_its_code_reason_and_facts(
    client: Client, error: StemTubeError, status: int
) -> None:
    client.suite.library.error = error
    assert await client.json("GET", "/api/v1/tracks") == (
        status,
        {
            "code": int(error.code),
            "message": error.message,
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": error.reason,
                    "domain": "stemtube",
                    "metadata": error.metadata,
                }
            ],
        },
    )


async def test_a_draining_service_is_answered_with_503(client: Client) -> None:
    client.suite.library.error = UnavailableError("Not now.", "DRAINING")
    assert await client.refused("GET", "/api/v1/tracks") == (503, "DRAINING")


async def test_unimplemented_slow_and_unreachable_services(client: Client, connect: Connect) -> None:
    elsewhere = {"separation": client.suite.address("auth"), "analysis": "127.0.0.1:1"}
    client = await connect(call_seconds=0.3, address=elsewhere)
    assert await client.refused("GET", "/api/v1/models") == (501, "UNIMPLEMENTED")
    assert await client.refused("GET", "/api/v1/jobs/any") == (504, "DEADLINE_EXCEEDED")
    status, content = await client.json("GET", "/api/v1/backends")
    assert status in (503, 504)
    assert "127.0.0.1" not in json.dumps(content)


async def test_a_client_that_goes_away_ends_the_rpc(client: Client) -> None:
    request = asyncio.create_task(client.json("GET", "/api/v1/jobs/any"))
    await until(lambda: client.suite.library.waiting == 1)
    request.cancel()
    await until(lambda: client.suite.library.waiting == 0)


async def test_the_caller_and_the_request_id_reach_the_service(connect: Connect) -> None:
    client = await connect()
    async with client.http.get("/api/v1/tracks", headers={"X-Request-Id": "mine-1"}) as response:
        assert response.headers["X-Request-Id"] == "mine-1"
    assert client.suite.library.metadata["x-request-id"] == "mine-1"
    async with client.http.get("/api/v1/tracks", headers={"X-Request-Id": "not nice\t"}) as response:
        assert response.headers["X-Request-Id"] == client.suite.library.metadata["x-request-id"] != "not nice\t"


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer nonsense", "Basic YTpi", "Bearer ünsinn", "Bearer " + "x" * 4000]
)
async def test_without_a_valid_token_requests_are_refused(connect: Connect, authorization: str | None) -> None:
    client = await connect(user=None)
    headers = {} if authorization is None else {"Authorization": authorization}
    async with client.http.get("/api/v1/tracks", headers=headers) as response:
        assert response.status == 401
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
        assert (await response.json())["code"] == Code.UNAUTHENTICATED


async def test_the_header_wins_over_the_cookie(connect: Connect) -> None:
    client = await connect(user="ann")
    cookie = {"Cookie": f"stemtube_access={token_of('bob')}"}
    _, content = await client.json("GET", "/api/v1/me", headers=cookie)
    assert content["user"]["id"] == "ann"


@pytest.mark.parametrize(
    ("template", "route", "fields"),
    [
        ("/v1/tracks", "/v1/tracks", {}),
        ("/v1/tracks/{track_id}", "/v1/tracks/{track_id:[^/]+}", {"track_id": "track_id"}),
        ("/v1/{track.id}:play", "/v1/{track__id:[^/]+}:play", {"track__id": "track.id"}),
        ("/v1/{name=shelves/*/books/**}", "/v1/{name:shelves/[^/]+/books/.*}", {"name": "name"}),
        ("/v1/*/all", "/v1/{any0:[^/]+}/all", {}),
    ],
)
def test_path_templates(template: str, route: str, fields: dict[str, str]) -> None:
    parsed = parse_template(template)
    assert (parsed.route, parsed.fields) == (route, fields)


@pytest.mark.parametrize("template", ["v1", "/v1/{", "/v1/{a}/{a}", "/v1/{A}", "/v1/a*", "/v1/{a={b}}"])
def test_invalid_path_templates_stop_the_start(template: str) -> None:
    with pytest.raises(BadAnnotationError):
        parse_template(template)
