"""What an export is: how a track becomes a file."""

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
"""Values of an export's options by name; those that were not given have their default."""


@dataclass(frozen=True, slots=True)
class FileType:
    """What kind of file it is.

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
        choices: what it can be, the default first; empty: any text, which is empty unless given.
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
    """A ZIP of stems as they are stored.

    Args:
        type: of the file.
        stems: by their names in the archive.
    """

    type: FileType
    stems: Mapping[str, TrackStem]


@dataclass(frozen=True, slots=True)
class Rendering:
    """Sound that has yet to be made, by the export's `render`.

    Args:
        type: of the file.
        stems: what it is made of.
        with_mix: it is also made of the original, which comes before the stems.
        parameters: for `render`; JSON.
    """

    type: FileType
    stems: Sequence[TrackStem] = ()
    with_mix: bool = False
    parameters: dict[str, Any] = field(default_factory=dict)


Render = Callable[[Sequence[BinaryIO], dict[str, Any], Path, Callable[[float], None], "Sandbox"], None]
"""Makes sound in a child process, block by block in bounded memory.

Its arguments: the objects that the `Rendering` names, opened, in its order; its parameters; the path of the file to
write; what gets the share that is done, and raises to stop the work; and where the original is decoded, which a
stranger made, unlike stems. It imports PyAV and NumPy itself, as the gateway's own process has no use for them.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """One way to take a track elsewhere.

    Args:
        name: in addresses.
        summary: one sentence for people.
        make: the file, from all that is known of a track and the options. Raises NotFoundError where a part of the
            track is missing that it cannot do without, InvalidInputError where an option makes no sense.
        options: that it has.
        render: does what a `Rendering` leaves to be done.
    """

    name: str
    summary: str
    make: Callable[[Track, Options], Document | Archive | Rendering]
    options: tuple[Option, ...] = ()
    render: Render | None = None
