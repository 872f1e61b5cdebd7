"""Describes exports: how a track becomes a file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from stemtube.download.v1 import track_pb2

if TYPE_CHECKING:
    from services.common.audio import Sandbox

Track = track_pb2.Track
TrackStem = track_pb2.TrackStem
Options = Mapping[str, str]
"""Values of an export's options by name, with defaults."""


@dataclass(frozen=True, slots=True)
class FileType:
    """The kind of file.

    Args:
        suffix: of its name, with the dot.
        content_type: its MIME type.
    """

    suffix: str
    content_type: str


@dataclass(frozen=True, slots=True)
class Option:
    """A query parameter.

    Args:
        name: of the parameter.
        description: for people.
        choices: possible values, the default first; empty: any text, empty by default.
    """

    name: str
    description: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Document:
    """A small file, complete.

    Args:
        type: of the file.
        content: text (UTF-8) or bytes.
    """

    type: FileType
    content: str | bytes


@dataclass(frozen=True, slots=True)
class Archive:
    """A ZIP of stored stems.

    Args:
        type: of the file.
        stems: stems by their names in the archive.
    """

    type: FileType
    stems: Mapping[str, TrackStem]


@dataclass(frozen=True, slots=True)
class Rendering:
    """Sound that the export's `render` will make.

    Args:
        type: of the file.
        stems: the stems that it needs.
        with_mix: whether it also needs the original, which comes before the stems.
        parameters: for `render`; JSON.
    """

    type: FileType
    stems: Sequence[TrackStem] = ()
    with_mix: bool = False
    parameters: dict[str, Any] = field(default_factory=dict)


Render = Callable[[Sequence[BinaryIO], dict[str, Any], Path, Callable[[float], None], "Sandbox"], None]
"""Makes sound in a child process, block by block in bounded memory.

Its arguments are: the opened objects of the `Rendering`, in its order; the `Rendering`'s parameters; the path of the
file to write; a function that is called with the fraction done and raises to stop the work; and the sandbox for
decoding the original, which is untrusted, unlike stems. It imports PyAV and NumPy itself, because the gateway's process
does not.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """A format in which tracks can be exported.

    Args:
        name: in addresses.
        summary: one sentence for people.
        make: makes the file from a track and the options. Raises NotFoundError if the track has not what the format
            needs, InvalidInputError if an option makes no sense.
        options: of the format.
        render: makes the sound if `make` returns a `Rendering`.
    """

    name: str
    summary: str
    make: Callable[[Track, Options], Document | Archive | Rendering]
    options: tuple[Option, ...] = ()
    render: Render | None = None
