"""The gateway serves an unknown service from its annotations: every kind of rule and of field."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import google.api.annotations_pb2
import grpc
import grpc.aio
import grpc_tools
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import ServiceDescriptor
from grpc_tools import protoc

from gateway.app import start
from gateway.config import GatewaySection, GatewaySettings
from gateway.transcoding.bindings import BadAnnotationError, bindings
from gateway.transcoding.openapi import query_fields
from services.common.config import AddressSettings

HERE = Path(__file__).parent


def compile_service(proto: Path, folder: Path, name: str) -> ServiceDescriptor:
    google = Path(google_api_folder()).parents[1]
    bundled = Path(grpc_tools.__file__).parent / "_proto"
    target = folder / "set.binpb"
    paths = [f"--proto_path={path}" for path in (proto.parent, bundled, google)]
    assert protoc.main(["protoc", *paths, f"--descriptor_set_out={target}", proto.name]) == 0
    pool = descriptor_pool.Default()
    (file,) = descriptor_pb2.FileDescriptorSet.FromString(target.read_bytes()).file
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindServiceByName(name)


def google_api_folder() -> str:
    assert google.api.annotations_pb2.__file__
    return str(Path(google.api.annotations_pb2.__file__).parent)


@pytest.fixture(scope="module")
def record_service(tmp_path_factory: pytest.TempPathFactory) -> ServiceDescriptor:
    folder = tmp_path_factory.mktemp("record")
    return compile_service(HERE / "record.proto", folder, "stemtube.tests.record.v1.RecordService")


@pytest.fixture
async def http(record_service: ServiceDescriptor, tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    echo = message_factory.GetMessageClass(record_service.methods_by_name["PutRecord"].output_type)

    def handler(rpc: str, field: str) -> "grpc.RpcMethodHandler[Any, Any]":
        request_class = message_factory.GetMessageClass(record_service.methods_by_name[rpc].input_type)

        async def answer(request: Any, context: Any) -> Any:
            return echo(**{field: request}, counts={"all": 2**53 + 1})

        return grpc.unary_unary_rpc_method_handler(
            answer, request_class.FromString, lambda message: message.SerializeToString()
        )

    server = grpc.aio.server()
    handlers = {"PutRecord": handler("PutRecord", "put"), "FindRecords": handler("FindRecords", "found")}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(record_service.full_name, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    settings = GatewaySettings(
        data_dir=tmp_path,
        address=AddressSettings(analysis=f"127.0.0.1:{port}"),
        gateway=GatewaySection(listen="127.0.0.1:0", health_listen=None),
    )
    gateway = await start(settings, {"analysis": [record_service]})
    async with aiohttp.ClientSession(f"http://127.0.0.1:{gateway.port}") as session:
        yield session
    await gateway.stop()
    await server.stop(None)


async def test_a_field_as_body_nested_path_variables_and_the_rest_as_query(http: aiohttp.ClientSession) -> None:
    path = "/v1/genres/jazz/records/7?replace=true&note=a%20b"
    async with http.put(path, json={"title": "Blue Train", "id": "ignored"}) as response:
        content = await response.json()
    assert content["put"] == {
        "record": {"genre": "genres/jazz", "id": "7", "title": "Blue Train"},
        "replace": True,
        "note": "a b",
    }
    assert content["counts"] == {"all": "9007199254740993"}


async def test_an_additional_binding(http: aiohttp.ClientSession) -> None:
    body = {"record": {"id": "8"}, "note": "n"}
    async with http.post("/v1/records:put", json=body) as response:
        assert (await response.json())["put"]["record"]["id"] == "8"


async def test_every_kind_of_query_parameter(http: aiohttp.ClientSession) -> None:
    query = (
        "tags=a&tags=b&condition=CONDITION_WORN&conditions=CONDITION_MINT&conditions=2&maxPrice=1.5"
        "&since=2026-01-02T03:04:05Z&like.title=Blue&like.genre=jazz&signed=true"
    )
    async with http.get(f"/v1/records/{2**60}?{query}") as response:
        content = await response.json()
    assert content["found"] == {
        "number": str(2**60),
        "tags": ["a", "b"],
        "condition": "CONDITION_WORN",
        "conditions": ["CONDITION_MINT", "CONDITION_WORN"],
        "maxPrice": 1.5,
        "since": "2026-01-02T03:04:05Z",
        "like": {"genre": "jazz", "id": "", "title": "Blue"},
        "signed": True,
    }


@pytest.mark.parametrize(
    "target",
    [
        "/v1/records/many",
        "/v1/records/1?number=2",
        "/v1/records/1?signed=yes",
        "/v1/records/1?condition=CONDITION_LOST",
        "/v1/records/1?since=yesterday",
        "/v1/records/1?like=x",
        "/v1/records/1?like.nothing=x",
        "/v1/records/1?tags.x=1",
        "/v1/records/1?.=1",
    ],
)
async def test_invalid_parameters_are_refused(http: aiohttp.ClientSession, target: str) -> None:
    async with http.get(target) as response:
        assert response.status == 400
        assert (await response.json())["details"][0]["reason"] == "BAD_REQUEST"


async def test_it_is_in_the_openapi_document(http: aiohttp.ClientSession) -> None:
    async with http.get("/api/v1/openapi.json") as response:
        document = await response.json()
    put = document["paths"]["/v1/{record.genre}/records/{record.id}"]["put"]
    assert [parameter["name"] for parameter in put["parameters"]] == ["record.genre", "record.id", "replace", "note"]
    assert document["paths"]["/v1/records:put"]["post"]["operationId"] == "PutRecord2"


def test_query_fields_descend_into_messages_but_not_into_lists(record_service: ServiceDescriptor) -> None:
    message = record_service.methods_by_name["FindRecords"].input_type
    names = [".".join(field.json_name for field in fields) for fields in query_fields(message)]
    assert names == [
        *("number", "tags", "condition", "conditions", "maxPrice", "since"),
        *("like.genre", "like.id", "like.title", "signed"),
    ]


BAD_RULES = {
    "no such field": 'get: "/v1/{colour}"',
    "a message in the path": 'get: "/v1/{inner}"',
    "no such body": 'post: "/v1/x" body: "colour"',
    "part of the response": 'get: "/v1/x" response_body: "inner"',
    "no path": 'body: "*"',
}


@pytest.mark.parametrize("rule", BAD_RULES.values(), ids=BAD_RULES)
def test_an_unsupported_annotation_stops_the_start(rule: str, tmp_path: Path) -> None:
    package = f"stemtube.tests.bad{abs(hash(rule))}"
    proto = tmp_path / f"{package}.proto"
    proto.write_text(
        f'syntax = "proto3"; package {package}; import "google/api/annotations.proto";'
        "message M { M inner = 1; string id = 2; }"
        f"service S {{ rpc R(M) returns (M) {{ option (google.api.http) = {{ {rule} }}; }} }}"
    )
    service = compile_service(proto, tmp_path, f"{package}.S")
    with pytest.raises(BadAnnotationError):
        bindings({"analysis": [service]})
