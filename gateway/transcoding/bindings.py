"""The HTTP routes in the contracts: `google.api.http` annotations and their path templates.

They are defined in https://github.com/googleapis/googleapis/blob/master/google/api/http.proto
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor

_SEGMENT = re.compile(r"\{(?P<field>[a-z][a-z0-9_.]*)(?:=(?P<inner>[^{}]+))?\}|(?P<plain>[^/{}]+)")
_VERBS = ("get", "put", "post", "delete", "patch")


Services = Mapping[str, Sequence[ServiceDescriptor]]
"""The gRPC services of each process, by the name of the process's setting in `address`."""


class BadAnnotationError(ValueError):
    """A contract's HTTP annotation cannot be served; raised when the gateway starts."""


@dataclass(frozen=True, slots=True)
class PathTemplate:
    """A parsed path template.

    Args:
        route: the pattern in aiohttp's syntax, one named group per variable.
        path: the template for readers, with plain variables: `/v1/{name}/parts`.
        fields: dotted field path of each variable, by the name of its group in `route`.
    """

    route: str
    path: str
    fields: dict[str, str]


@dataclass(frozen=True, slots=True)
class Binding:
    """One HTTP route of one RPC.

    Args:
        method: the RPC.
        verb: HTTP method.
        template: the path.
        body: "*" (the body is the request), a field of the request, or "" (there is no body).
    """

    method: MethodDescriptor
    verb: str
    template: PathTemplate
    body: str


def bindings(services: Services) -> list[Binding]:
    """All routes of these services.

    Raises:
        BadAnnotationError: an annotation cannot be served.
    """
    return [
        _binding(method, rule)
        for group in services.values()
        for service in group
        for method in service.methods
        if method.GetOptions().HasExtension(annotations_pb2.http)
        for rule in _rules(method.GetOptions().Extensions[annotations_pb2.http])
    ]


def _rules(rule: http_pb2.HttpRule) -> Iterator[http_pb2.HttpRule]:
    yield rule
    yield from rule.additional_bindings


def _binding(method: MethodDescriptor, rule: http_pb2.HttpRule) -> Binding:
    if method.client_streaming:
        raise BadAnnotationError(f"{method.full_name}: a client's stream cannot come over HTTP")
    if rule.response_body:
        raise BadAnnotationError(f"{method.full_name}: response_body is not supported")
    kind = rule.WhichOneof("pattern")
    if kind == "custom":
        verb, path = rule.custom.kind, rule.custom.path
    elif kind in _VERBS:
        verb, path = kind.upper(), getattr(rule, kind)
    else:
        raise BadAnnotationError(f"{method.full_name}: no path")
    if method.server_streaming and verb != "GET":
        raise BadAnnotationError(f"{method.full_name}: a stream is opened with GET, not {verb}")
    template = parse_template(path)
    for field in template.fields.values():
        if not is_text_like(resolve(method, field)):
            raise BadAnnotationError(f"{method.full_name}: {field} cannot stand in a path")
    if rule.body not in ("", "*"):
        resolve(method, rule.body)
    return Binding(method, verb, template, rule.body)


def resolve(method: MethodDescriptor, path: str) -> FieldDescriptor:
    """The field of a request message at a dotted path.

    Raises:
        BadAnnotationError: there is none.
    """
    *outer, last = path.split(".")
    message: Descriptor | None = method.input_type
    for name in outer:
        message = message.fields_by_name[name].message_type if message and name in message.fields_by_name else None
    if message is None or last not in message.fields_by_name:
        raise BadAnnotationError(f"{method.full_name}: no field {path}")
    return message.fields_by_name[last]


def is_text_like(field: FieldDescriptor) -> bool:
    """Whether a value of the field can be written in a path: a single number, name or text."""
    return field.message_type is None and not field.is_repeated


def parse_template(text: str) -> PathTemplate:
    """Parses a path template: `/v1/{parent=shelves/*}/books/{book.id}:publish`.

    Raises:
        BadAnnotationError: it does not follow the grammar.
    """
    if not text.startswith("/"):
        raise BadAnnotationError(f"{text}: a path starts with /")
    route, path, position = "", "", 0
    fields: dict[str, str] = {}
    anonymous = 0
    while position < len(text):
        if text[position] == "/":
            route, path, position = route + "/", path + "/", position + 1
            continue
        match = _SEGMENT.match(text, position)
        if match is None:
            raise BadAnnotationError(f"{text}: not a path template")
        position = match.end()
        if field := match["field"]:
            group = field.replace(".", "__")
            if group in fields:
                raise BadAnnotationError(f"{text}: {field} occurs twice")
            fields[group] = field
            route += f"{{{group}:{_pattern(match['inner'] or '*')}}}"
            path += f"{{{field}}}"
        elif match["plain"] in ("*", "**"):
            route += f"{{any{anonymous}:{_pattern(match['plain'])}}}"
            path += f"{{any{anonymous}}}"
            anonymous += 1
        elif "*" in match["plain"]:
            raise BadAnnotationError(f"{text}: a wildcard is a whole segment")
        else:
            route, path = route + match["plain"], path + match["plain"]
    return PathTemplate(route, path, fields)


def _pattern(segments: str) -> str:
    wild = {"*": "[^/]+", "**": ".*"}
    return "/".join(wild.get(segment, re.escape(segment)) for segment in segments.split("/"))
