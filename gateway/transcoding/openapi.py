"""The HTTP API as OpenAPI 3.1, from the contracts and their comments and from descriptions of hand-written routes."""

from collections.abc import Iterable, Iterator
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from gateway import page_errors, processes
from gateway.errors import HTTP_STATUS
from gateway.exports import routes as exports
from gateway.keys import ACCOUNTS
from gateway.media import media
from gateway.session import session
from gateway.session.credentials import ACCESS_COOKIE, REFRESH_COOKIE
from gateway.transcoding.bindings import Binding, Services, bindings, resolve
from gateway.transcoding.comments import RpcComment, parse_rpc_comment, read_comments
from gateway.transcoding.messages import is_query_field
from gateway.uploads import form, openapi
from services.common.errors import Code

_WELL_KNOWN: dict[str, dict[str, Any]] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?\d+(\.\d{1,9})?s$", "description": "Seconds."},
    "google.protobuf.FieldMask": {"type": "string", "description": "Field names with commas between."},
}
_INT32 = {"type": "integer", "format": "int32"}
_UINT32 = {"type": "integer", "format": "uint32", "minimum": 0}
# ProtoJSON writes 64-bit numbers as text, because JavaScript's numbers would lose the last digits.
_INT64 = {"type": "string", "format": "int64"}
_UINT64 = {"type": "string", "format": "uint64"}
_SCALARS: dict[int, dict[str, Any]] = {
    FieldDescriptor.TYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.TYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    FieldDescriptor.TYPE_INT32: _INT32,
    FieldDescriptor.TYPE_SINT32: _INT32,
    FieldDescriptor.TYPE_SFIXED32: _INT32,
    FieldDescriptor.TYPE_UINT32: _UINT32,
    FieldDescriptor.TYPE_FIXED32: _UINT32,
    FieldDescriptor.TYPE_INT64: _INT64,
    FieldDescriptor.TYPE_SINT64: _INT64,
    FieldDescriptor.TYPE_SFIXED64: _INT64,
    FieldDescriptor.TYPE_UINT64: _UINT64,
    FieldDescriptor.TYPE_FIXED64: _UINT64,
}
_ERROR = {"$ref": "#/components/responses/Error"}
_SENT_SUFFIX = "Input"
"""Suffix for the input schema of messages that occur both in requests and in answers."""
_SIGNED_IN_BY: list[dict[str, list[str]]] = [{"bearer": []}, {"accessCookie": []}]
_PUBLIC_METHODS = frozenset({f"{ACCOUNTS}.GetRegistration"})
_INTRODUCTION = """\
Songs in; stems, beats, tempo, key, chords, words and structure out.

Sign in at `/api/v1/auth/login`. Programs send the access token, or an API token, as `Authorization: Bearer …`. Browsers
send cookies and, with each write, the origin of their page. A client that sends too many requests gets 429 with
Retry-After. Times and durations in results are seconds. Every error is a `google.rpc.Status` with an `ErrorInfo`; its
`reason` is stable and meant for programs.

Routes that answer with events are WebSockets, or `text/event-stream` if Accept asks for it. A WebSocket sends one JSON
text per event. It closes with 1000 when nothing more will come, with 1012 or 1013 when the client should connect again,
and otherwise, after a last text `{"error": Status}`, with 4000 plus the error's code.
"""


def document(services: Services, public_url: str = "") -> dict[str, Any]:
    """The OpenAPI document.

    Args:
        services: the served gRPC services. The tag of a route is the name of its process.
        public_url: address of this gateway; empty: that of the document.
    """
    return _Document(services).build(public_url)


class _Document:
    def __init__(self, services: Services) -> None:
        self._tags = {
            service.full_name: f"{process.capitalize()}Service"
            for process, group in services.items()
            for service in group
        }
        self._bindings = bindings(services)
        self._comments = read_comments()
        self._schemas: dict[str, Any] = {}
        self._extra_answers = (form.RESPONSE, session.USER, *processes.MESSAGES)
        # Messages in answers; the same messages in requests have separate schemas.
        self._answered: set[str] = set()
        for message in (*(binding.method.output_type for binding in self._bindings), *self._extra_answers):
            self._note_answered(message)

    def build(self, public_url: str) -> dict[str, Any]:
        paths: dict[str, Any] = {}
        seen: dict[str, int] = {}
        for binding in self._bindings:
            name = binding.method.name
            seen[name] = seen.get(name, 0) + 1
            operation_id = name if seen[name] == 1 else f"{name}{seen[name]}"
            path = paths.setdefault(binding.template.path, {})
            path[binding.verb.lower()] = self._operation(binding, operation_id)
        for module in (session, form, openapi, media, processes, exports, page_errors):
            for address, operations in module.OPENAPI.items():
                paths.setdefault(address, {}).update(operations)
        self._reference(form.HEADER_OPTIONS, sent=True)
        for message in self._extra_answers:
            self._reference(message)
        return {
            "openapi": "3.1.0",
            "info": {"title": "StemTube", "version": "1", "description": _INTRODUCTION},
            "servers": [{"url": public_url or "/"}],
            "security": _SIGNED_IN_BY,
            "tags": [
                {"name": tag, "description": self._tag_description(tag)}
                for tag in dict.fromkeys(self._tags.values())
                if any(tag in operation["tags"] for path in paths.values() for operation in path.values())
            ]
            + [page_errors.TAG],
            "paths": dict(sorted(paths.items())),
            "components": {
                "schemas": dict(sorted({**self._schemas, **session.OPENAPI_SCHEMAS, "Status": _STATUS}.items())),
                "responses": {
                    "Error": {
                        "description": "An error.",
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Status"}}},
                    }
                },
                "securitySchemes": {
                    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                    "accessCookie": {"type": "apiKey", "in": "cookie", "name": ACCESS_COOKIE},
                    "refreshCookie": {"type": "apiKey", "in": "cookie", "name": REFRESH_COOKIE},
                },
            },
        }

    def _tag_description(self, tag: str) -> str:
        """There is one tag per process, because users of the HTTP API need not know the gRPC services."""
        return "\n\n".join(self._comments.get(name, "") for name, of_service in self._tags.items() if of_service == tag)

    def _note_answered(self, message: Descriptor) -> None:
        if message.full_name not in self._answered:
            self._answered.add(message.full_name)
            for field in message.fields:
                if field.message_type is not None:
                    self._note_answered(field.message_type)

    def _operation(self, binding: Binding, operation_id: str) -> dict[str, Any]:
        comment = parse_rpc_comment(self._comments.get(binding.method.full_name, ""))
        operation: dict[str, Any] = {
            "operationId": operation_id,
            "tags": [self._tags[binding.method.containing_service.full_name]],
            "summary": comment.summary,
            "description": comment.description,
            "parameters": self._parameters(binding),
            "responses": self._responses(binding, comment),
        }
        if body := self._body(binding):
            operation["requestBody"] = body
        security: dict[str, Any] = {"security": []} if binding.method.full_name in _PUBLIC_METHODS else {}
        return {name: value for name, value in operation.items() if value} | security

    def _parameters(self, binding: Binding) -> list[dict[str, Any]]:
        bound = list(binding.template.fields.values())
        parameters = [
            {"name": path, "in": "path", "required": True, **self._described(resolve(binding.method, path), sent=True)}
            for path in bound
        ]
        if binding.body == "*":
            return parameters
        for fields in query_fields(binding.method.input_type):
            if fields[0].name != binding.body and ".".join(field.name for field in fields) not in bound:
                name = ".".join(field.json_name for field in fields)
                parameters.append({"name": name, "in": "query", **self._described(fields[-1], sent=True)})
        return parameters

    def _described(self, field: FieldDescriptor, sent: bool) -> dict[str, Any]:
        comment = self._comments.get(field.full_name, "")
        return {**({"description": comment} if comment else {}), "schema": self._field_schema(field, sent)}

    def _body(self, binding: Binding) -> dict[str, Any] | None:
        if not binding.body:
            return None
        message = binding.method.input_type
        if binding.body != "*":
            schema = self._field_schema(message.fields_by_name[binding.body], sent=True)
        elif bound := set(binding.template.fields.values()):
            schema = self._message_schema(message, sent=True, without=bound)
        else:
            schema = self._reference(message, sent=True)
        return {"content": {"application/json": {"schema": schema}}}

    def _responses(self, binding: Binding, comment: RpcComment) -> dict[str, Any]:
        schema = self._reference(binding.method.output_type)
        responses: dict[str, Any] = {}
        if binding.method.server_streaming:
            responses["101"] = {"description": "A WebSocket that sends these messages as JSON texts."}
            content = {"text/event-stream": {"schema": schema}}
            responses["200"] = {"description": "Server-sent events; each data is such a message.", "content": content}
            responses["426"] = _ERROR
        else:
            responses["200"] = {"description": "OK", "content": {"application/json": {"schema": schema}}}
        is_public = binding.method.full_name in _PUBLIC_METHODS
        errors: dict[str, list[str]] = {} if is_public else {"401": ["No valid access token."]}
        for code, text in comment.errors.items():
            errors.setdefault(str(HTTP_STATUS[code]), []).append(f"{code.name}: {text}")
        if binding.template.fields or binding.body or binding.method.input_type.fields:
            errors.setdefault(
                str(HTTP_STATUS[Code.INVALID_ARGUMENT]), ["The request is malformed (reason BAD_REQUEST)."]
            )
        for status, texts in sorted(errors.items()):
            content = {"application/json": {"schema": {"$ref": "#/components/schemas/Status"}}}
            responses[status] = {"description": "\n\n".join(texts), "content": content}
        responses["default"] = _ERROR
        return responses

    def _reference(self, message: Descriptor, sent: bool = False) -> dict[str, Any]:
        name = message.full_name
        if name in _WELL_KNOWN:
            return _WELL_KNOWN[name]
        if name.startswith("google.protobuf."):
            return {}
        if sent and name in self._answered:
            name += _SENT_SUFFIX
        if name not in self._schemas:
            self._schemas[name] = {}
            self._schemas[name] = self._message_schema(message, sent)
        return {"$ref": f"#/components/schemas/{name}"}

    def _message_schema(self, message: Descriptor, sent: bool, without: Iterable[str] = ()) -> dict[str, Any]:
        """In requests, any field may be left out and unknown ones are refused; in answers, some are always there."""
        fields = [field for field in message.fields if field.name not in without]
        schema: dict[str, Any] = {"type": "object"}
        if comment := self._comments.get(message.full_name):
            schema["description"] = comment
        schema["properties"] = {}
        for field in fields:
            described = self._described(field, sent)
            schema["properties"][field.json_name] = {**described["schema"], **_without_schema(described)}
        if sent:
            schema["additionalProperties"] = False
        elif always := [field.json_name for field in fields if _is_always_there(field)]:
            schema["required"] = always
        return schema

    def _field_schema(self, field: FieldDescriptor, sent: bool) -> dict[str, Any]:
        inner = field.message_type
        if inner is not None and inner.GetOptions().map_entry:
            return {"type": "object", "additionalProperties": self._field_schema(inner.fields_by_name["value"], sent)}
        if inner is not None:
            schema = self._reference(inner, sent)
        elif field.enum_type is not None:
            schema = self._enum(field.enum_type)
        else:
            schema = _SCALARS[field.type]
        return {"type": "array", "items": schema} if field.is_repeated else schema

    def _enum(self, enum: EnumDescriptor) -> dict[str, Any]:
        name = enum.full_name
        if name not in self._schemas:
            schema: dict[str, Any] = {"type": "string", "enum": [value.name for value in enum.values]}
            if comment := self._comments.get(name):
                schema["description"] = comment
            self._schemas[name] = schema
        return {"$ref": f"#/components/schemas/{name}"}


def query_fields(message: Descriptor, outer: tuple[FieldDescriptor, ...] = ()) -> Iterator[tuple[FieldDescriptor, ...]]:
    """The fields of a request that can be query parameters, each with the fields on the path to it."""
    for field in message.fields:
        inner = field.message_type
        if is_query_field(field):
            yield (*outer, field)
        elif inner is not None and not field.is_repeated and all(inner is not above.message_type for above in outer):
            yield from query_fields(inner, (*outer, field))


def _is_always_there(field: FieldDescriptor) -> bool:
    """Whether answers always have a field: it has no presence, or the contract says so."""
    behavior = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return not field.has_presence or field_behavior_pb2.REQUIRED in behavior


def _without_schema(described: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in described.items() if name != "schema"}


_STATUS: dict[str, Any] = {
    "type": "object",
    "description": "google.rpc.Status: what went wrong.",
    "properties": {
        "code": {"type": "integer", "description": "A google.rpc.Code."},
        "message": {"type": "string", "description": "For a person."},
        "details": {
            "type": "array",
            "items": {
                "type": "object",
                "description": "google.rpc.ErrorInfo.",
                "properties": {
                    "@type": {"const": "type.googleapis.com/google.rpc.ErrorInfo"},
                    "reason": {"type": "string", "description": "Stable, for programs."},
                    "domain": {"type": "string"},
                    "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
                },
                "required": ["@type", "reason", "domain", "metadata"],
            },
        },
    },
    "required": ["code", "message", "details"],
}
