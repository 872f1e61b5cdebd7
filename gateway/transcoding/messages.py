"""Converts bodies, query parameters and path variables to messages, and messages to JSON."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from aiohttp import web
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from gateway.errors import HttpError
from gateway.keys import SETTINGS
from gateway.transcoding.bindings import Binding
from services.common.errors import Code, InvalidInputError

MessageType = TypeVar("MessageType", bound=Message)

MAX_DEPTH = 32
LARGE_MESSAGE_BYTES = 32 * 1024
# Messages that ProtoJSON writes as one string, so they can be query parameters.
WRITTEN_AS_TEXT = frozenset(
    {"google.protobuf.Timestamp", "google.protobuf.Duration", "google.protobuf.FieldMask"},
)


def bad_request(message: str) -> InvalidInputError:
    """The error of a request that does not follow the contract."""
    return InvalidInputError(message, "BAD_REQUEST")


async def read_body(request: web.Request) -> bytes:
    """The whole body, within the limit for JSON.

    Raises:
        HttpError: it is too large, or stopped arriving.
    """
    try:
        async with asyncio.timeout(request.app[SETTINGS].body_idle_seconds):
            return await request.read()
    except TimeoutError:
        raise body_timeout() from None


def body_timeout() -> HttpError:
    """The error of a body that stopped arriving."""
    return HttpError(408, Code.DEADLINE_EXCEEDED, "The body did not arrive in time.", "BODY_TIMEOUT")


async def read_json(request: web.Request) -> Any:
    """The body as JSON; an empty body is an empty object.

    Raises:
        HttpError: it is of another media type, or too large.
        InvalidInputError: it is not JSON (reason BAD_REQUEST).
    """
    body = await read_body(request)
    if not body:
        return {}
    # The Content-Type is required, because pages of other sites cannot send it without a preflight.
    if request.headers.get("Content-Type") is None or request.content_type != "application/json":
        raise unsupported_media_type("application/json")
    return parse_json(body)


def unsupported_media_type(*accepted: str) -> HttpError:
    """The error of a body whose Content-Type is not among those accepted."""
    message = f"Send the body as {' or '.join(accepted)}, named in Content-Type."
    return HttpError(415, Code.INVALID_ARGUMENT, message, "UNSUPPORTED_MEDIA_TYPE", {"Accept": ", ".join(accepted)})


def parse_json(text: bytes | str) -> Any:
    """Parses JSON strictly: UTF-8, no duplicate names, no NaN.

    Raises:
        InvalidInputError: it is not such JSON (reason BAD_REQUEST).
    """
    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
        return json.loads(decoded, object_pairs_hook=_object, parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise bad_request("The JSON is not UTF-8.") from None
    except RecursionError:
        raise bad_request("The JSON is nested too deeply.") from None
    except ValueError as error:
        raise bad_request(f"This is not JSON: {error}.") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    parsed = dict(pairs)
    if len(parsed) < len(pairs):
        raise ValueError("a name occurs twice in an object")
    return parsed


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def fill(message: MessageType, content: Any) -> MessageType:
    """Puts parsed ProtoJSON into a message, in addition to its present content.

    Returns:
        The message.

    Raises:
        InvalidInputError: unknown fields, or values of a wrong type (reason BAD_REQUEST).
    """
    if not isinstance(content, dict):
        raise bad_request("A JSON object is expected.")
    try:
        return json_format.ParseDict(content, message, max_recursion_depth=MAX_DEPTH)
    except (json_format.ParseError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise bad_request(f"The request is not as expected: {str(error).partition(chr(10))[0]}") from None


def fill_request(
    binding: Binding,
    message: MessageType,
    path: Mapping[str, str],
    query: Iterable[tuple[str, str]],
    body: Any,
) -> MessageType:
    """Fills the request of an RPC from an HTTP request.

    Args:
        binding: the route.
        message: an empty request.
        path: values of the path's variables, by group name.
        query: names and values of the query.
        body: the parsed body; None if the route has none.

    Returns:
        The message.

    Raises:
        InvalidInputError: unknown or malformed parameters or fields (reason BAD_REQUEST).
    """
    if binding.body == "*":
        fill(message, body)
    elif binding.body:
        fill(message, {binding.body: body})
    taken = set(binding.template.fields.values()) | ({binding.body} if binding.body else set())
    fill(message, _query_content(binding.method.input_type, taken, query))
    content: dict[str, Any] = {}
    for group, field_path in binding.template.fields.items():
        _nest(content, field_path.split("."), path[group])
    return fill(message, content)


def _query_content(message: Descriptor, taken: set[str], query: Iterable[tuple[str, str]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, value in query:
        fields = _query_fields(message, name)
        path = [field.name for field in fields]
        if not fields or "*" in taken or any(".".join(path[: n + 1]) in taken for n in range(len(path))):
            raise bad_request(f"There is no query parameter {name!r} here.")
        last = fields[-1]
        _nest(content, path, _query_value(last, name, value), repeated=last.is_repeated)
    return content


def _query_fields(message: Descriptor | None, name: str) -> list[FieldDescriptor]:
    """The fields on the path of a dotted query parameter; empty if there is no such field."""
    fields: list[FieldDescriptor] = []
    for part in name.split("."):
        field = None
        if message is not None and not (fields and fields[-1].is_repeated):
            field = message.fields_by_camelcase_name.get(part) or message.fields_by_name.get(part)
        if field is None:
            return []
        fields.append(field)
        message = field.message_type
    return fields if is_query_field(fields[-1]) else []


def is_query_field(field: FieldDescriptor) -> bool:
    """Whether a value of the field can be a query parameter."""
    return field.message_type is None or field.message_type.full_name in WRITTEN_AS_TEXT


def _query_value(field: FieldDescriptor, name: str, text: str) -> Any:
    if field.type != FieldDescriptor.TYPE_BOOL:
        return text
    if text not in ("true", "false"):
        raise bad_request(f"{name} is true or false.")
    return text == "true"


def _nest(content: dict[str, Any], path: list[str], value: Any, repeated: bool = False) -> None:
    *parents, last = path
    for parent in parents:
        content = content.setdefault(parent, {})
    if repeated:
        content.setdefault(last, []).append(value)
    elif last in content:
        raise bad_request(f"{'.'.join(path)} is given twice.")
    else:
        content[last] = value


def query_of(request: web.Request, *known: str) -> dict[str, str]:
    """The query parameters of a hand-written route.

    Raises:
        InvalidInputError: a parameter is unknown, or given twice (reason BAD_REQUEST).
    """
    for name in request.query:
        if name not in known:
            raise bad_request(f"There is no query parameter {name!r} here.")
        if len(request.query.getall(name)) > 1:
            raise bad_request(f"{name} is given twice.")
    return dict(request.query)


def to_json(message: Message) -> str:
    """A message as ProtoJSON on one line, in lowerCamelCase, with zero values."""
    return json_format.MessageToJson(
        message, always_print_fields_with_no_presence=True, indent=None, ensure_ascii=False
    )


async def json_response(message: Message) -> web.Response:
    """A message as a JSON response; a large one (a track's beats and words) is converted in a thread."""
    large = message.ByteSize() > LARGE_MESSAGE_BYTES
    text = await asyncio.to_thread(to_json, message) if large else to_json(message)
    return web.Response(text=text, content_type="application/json")
