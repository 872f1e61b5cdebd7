"""The OpenAPI document is valid, complete and true."""

import re
from importlib.resources import files
from typing import Any

import jsonschema
import pytest
from google.api import annotations_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway.app import SERVICES
from gateway.transcoding.comments import parse_rpc_comment, read_comments
from gateway.transcoding.openapi import document
from services.common.errors import Code
from tests.gateway.conftest import Client

DOCUMENT = document(SERVICES)
PREFIX = "#/components/schemas/"


def test_it_is_valid_openapi() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_every_service_with_http_paths_is_known() -> None:
    contracts = FileDescriptorSet.FromString((files("stemtube") / "stemtube.binpb").read_bytes())
    annotated = {
        f"{file.package}.{service.name}"
        for file in contracts.file
        for service in file.service
        if any(method.options.HasExtension(annotations_pb2.http) for method in service.method)
    }
    assert annotated <= {service.full_name for group in SERVICES.values() for service in group}


async def test_it_describes_every_route_and_no_other(client: Client) -> None:
    served = {
        (resource.canonical, route.method)
        for route in client.gateway.app.router.routes()
        if (resource := route.resource) and resource.canonical.startswith("/api/v1/") and route.method != "HEAD"
    }
    told = {(path, verb.upper()) for path, operations in DOCUMENT["paths"].items() for verb in operations}
    assert served - {("/api/v1/openapi.json", "GET")} == told
    assert ("/api/v1/tracks/{track_id}/process", "POST") in told
    assert ("/api/v1/tracks/upload", "POST") in told


def operations() -> list[Any]:
    return [operation for path in DOCUMENT["paths"].values() for operation in path.values()]


@pytest.mark.parametrize("operation", operations(), ids=lambda operation: operation["operationId"])
def test_every_operation_is_described(operation: dict[str, Any]) -> None:
    assert "default" in operation["responses"]
    assert operation["tags"]
    assert operation["summary"]


def test_operation_ids_are_unique() -> None:
    ids = [operation["operationId"] for operation in operations()]
    assert len(ids) == len(set(ids))


def test_comments_and_status_codes_come_from_the_contracts() -> None:
    process = DOCUMENT["paths"]["/api/v1/tracks/{track_id}/process"]["post"]
    assert process["summary"] == "Makes the named parts again, with the models and backends of the request."
    assert "FAILED_PRECONDITION: the track's audio has not arrived" in process["responses"]["400"]["description"]
    body = process["requestBody"]["content"]["application/json"]["schema"]
    assert set(body["properties"]) == {"options", "requestId"}
    track = DOCUMENT["components"]["schemas"]["stemtube.download.v1.Track"]
    assert track["properties"]["sourceUrl"]["description"] == "The link that it was fetched from; empty for an upload."
    assert "beats" in track["required"]
    assert "tempo" not in track["required"]


def test_fields_are_required_in_answers_and_optional_in_requests() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert "job" in schemas["stemtube.download.v1.TrackJob"]["required"]
    assert "regions" in schemas["stemtube.analysis.v1.Key"]["required"]
    assert "madeBy" not in schemas["stemtube.analysis.v1.Key"]["required"]
    edit = DOCUMENT["paths"]["/api/v1/tracks/{track_id}/edits"]["put"]["requestBody"]["content"]["application/json"]
    assert edit["schema"]["properties"]["key"]["$ref"] == f"{PREFIX}stemtube.analysis.v1.KeyInput"
    sent = schemas["stemtube.analysis.v1.KeyInput"]
    assert (sent["additionalProperties"], "required" in sent) == (False, False)


def test_an_rpc_comment_is_parsed() -> None:
    text = (
        "Stores a record of a genre. The rest.\nIt has several\nsentences.\n\n"
        "NOT_FOUND         no such genre, or none\n                  that you may see\nALREADY_EXISTS    it is there"
    )
    comment = parse_rpc_comment(text)
    assert comment.summary == "Stores a record of a genre."
    assert comment.description == "The rest. It has several sentences."
    assert comment.errors == {
        Code.NOT_FOUND: "no such genre, or none that you may see",
        Code.ALREADY_EXISTS: "it is there",
    }


def test_every_message_and_field_comment_is_found() -> None:
    comments = read_comments()
    assert (
        comments["stemtube.analysis.v1.Tempo.bpm"]
        == "Beats per minute; 0 if there is no pulse. If the tempo changes at once, that of the longest part."
    )
    assert comments["stemtube.job.v1.Job"].startswith("A job. It survives")
    assert "stemtube.download.v1.TrackService.ListTracks" in comments


async def test_responses_are_as_described(client: Client) -> None:
    """The gateway's answers validate against the schemas that it publishes."""
    _, created = await client.json("POST", "/api/v1/tracks", json={"url": "https://example.org", "requestId": "a"})
    _, listed = await client.json("GET", "/api/v1/tracks")
    _, refused = await client.json("GET", "/api/v1/tracks/none")
    for content, name in (
        (created, "stemtube.download.v1.CreateTrackResponse"),
        (listed, "stemtube.download.v1.ListTracksResponse"),
        (refused, "Status"),
    ):
        validator = jsonschema.Draft202012Validator({**DOCUMENT, "$ref": f"{PREFIX}{name}"})
        assert [error.message for error in validator.iter_errors(content)] == []


def test_unknown_fields_of_requests_are_refused_in_the_description_too() -> None:
    validator = jsonschema.Draft202012Validator(
        {**DOCUMENT, "$ref": f"{PREFIX}stemtube.download.v1.CreateTrackRequest"}
    )
    assert validator.is_valid({"url": "https://example.org", "options": {"analyses": [{"part": "PART_KEY"}]}})
    assert not validator.is_valid({"colour": "red"})
    assert not validator.is_valid({"options": {"analyses": [{"part": "PART_SMELL"}]}})


async def test_it_is_served_and_shown_as_a_page_without_scripts(client: Client) -> None:
    status, shown = await client.json("GET", "/api/v1/openapi.json")
    assert (status, shown["paths"]) == (200, DOCUMENT["paths"])
    async with client.http.get("/api/docs") as response:
        page = await response.text()
        policy = response.headers["Content-Security-Policy"]
    assert response.content_type == "text/html"
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "<script" not in page
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    for operation in operations():
        assert f'id="{operation["operationId"]}"' in page
    links = set(re.findall(r'href="#([^"]+)"', page))
    assert links <= set(re.findall(r'id="([^"]+)"', page))
    (style,) = re.findall(r'rel="stylesheet" href="([^"]+)"', page)
    async with client.http.get(style) as response:
        assert (response.status, response.content_type) == (200, "text/css")
