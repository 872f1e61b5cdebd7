"""Reads the contracts' comments from the descriptor set beside the generated code."""

import re
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pb2

from services.common.errors import Code

_ERROR_LINE = re.compile(r"([A-Z][A-Z_]+) {2,}(\S.*)")


@dataclass(slots=True)
class RpcComment:
    """The content of an RPC's comment.

    Args:
        summary: its first sentence.
        description: the rest of its prose.
        errors: reasons for each status code.
    """

    summary: str = ""
    description: str = ""
    errors: dict[Code, str] = field(default_factory=dict)


def read_comments() -> dict[str, str]:
    """All comments, by the full name of the element (`stemtube.download.v1.Track.title`)."""
    content = (files("stemtube") / "stemtube.binpb").read_bytes()
    comments: dict[str, str] = {}
    for file in descriptor_pb2.FileDescriptorSet.FromString(content).file:
        for location in file.source_code_info.location:
            text = location.leading_comments or location.trailing_comments
            name = _full_name(file, list(location.path)) if text else None
            if name:
                comments[name] = "\n".join(line.removeprefix(" ") for line in text.rstrip().split("\n"))
    return comments


def _full_name(file: descriptor_pb2.FileDescriptorProto, path: list[int]) -> str | None:
    """Name of the message, field, service … at a path of field numbers and indices (SourceCodeInfo.Location)."""
    names = [file.package]
    element: Any = file
    for number, index in zip(path[::2], path[1::2], strict=False):
        field = element.DESCRIPTOR.fields_by_number[number]
        if not field.is_repeated or field.message_type is None:
            return None
        element = getattr(element, field.name)[index]
        names.append(getattr(element, "name", ""))
    return ".".join(names) if len(path) % 2 == 0 else None


def parse_rpc_comment(text: str) -> RpcComment:
    """Parses an RPC's comment: prose, then one line per status code, continued by indented lines."""
    comment = RpcComment()
    prose: list[str] = []
    code: Code | None = None
    for line in text.split("\n"):
        match = _ERROR_LINE.fullmatch(line)
        if match and match[1] in Code.__members__:
            code = Code[match[1]]
            comment.errors[code] = match[2]
        elif code is not None and line.startswith("  "):
            comment.errors[code] += " " + line.strip()
        else:
            code = None
            prose.append(line)
    first, _, rest = " ".join("\n".join(prose).split()).partition(". ")
    comment.summary = first.removesuffix(".") + "." if first else ""
    comment.description = rest
    return comment
