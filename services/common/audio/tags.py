"""Reads the tags of a file: mutagen where it knows the format, FFmpeg elsewhere (Matroska, AVI, RIFF INFO …).

Only the library's processes need tags and have mutagen. Elsewhere FFmpeg reads them all.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import av
import structlog
from av.audio.stream import AudioStream

from services.common.audio.code_pages import decode_texts
from services.common.one_line import one_line

try:
    import mutagen
    from mutagen.id3 import ID3, Encoding, Frame, ID3NoHeaderError

    _HAS_MUTAGEN = True
except ImportError:
    _HAS_MUTAGEN = False

log = structlog.get_logger(__name__)

_MAX_LENGTH = 500
_JOINT = "; "
_KEYS: Mapping[str, tuple[str, ...]] = {
    "title": ("TIT2", "title", "\xa9nam", "Title"),
    "artist": ("TPE1", "artist", "\xa9ART", "Artist", "Author"),
    "album": ("TALB", "album", "\xa9alb", "Album", "WM/AlbumTitle"),
    "album_artist": ("TPE2", "albumartist", "aART", "Album Artist", "WM/AlbumArtist"),
    "date": ("TDRC", "date", "\xa9day", "Year", "WM/Year"),
    "genre": ("TCON", "genre", "\xa9gen", "Genre", "WM/Genre"),
    "track": ("TRCK", "tracknumber", "trkn", "Track", "WM/TrackNumber"),
    "composer": ("TCOM", "composer", "\xa9wrt", "Composer", "WM/Composer"),
}
"""By name: the key of ID3, Vorbis comments, MP4, APE and ASF, in this order."""
_OF_SEVERAL = frozenset({"artist", "album_artist", "genre", "composer"})

Text = str | bytes
"""Bytes if the encoding is not known."""


def read_tags(file: BinaryIO, container: av.container.InputContainer, stream: AudioStream) -> Mapping[str, str]:
    """The tags in `_KEYS` that a file has: lower case name to text.

    Several values, such as artists, are joined. ID3v2 counts before ID3v1. The texts are one line without controls and
    without marks of direction; what joins letters and emoji stays.

    Args:
        file: the file with all its tags.
        container: the open file, with its metadata as Latin-1.
        stream: its sound; Ogg has its tags there.
    """
    found: dict[str, list[Text]] = {}
    for values in (*_of_mutagen(file), _of_ffmpeg(container.metadata), _of_ffmpeg(stream.metadata)):
        for name, texts in values.items():
            if any(texts):
                found.setdefault(name, texts)
    unknown = [text for texts in found.values() for text in texts if isinstance(text, bytes)]
    decoded = iter(decode_texts(unknown))
    tags = {
        name: one_line(_JOINT.join(dict.fromkeys(next(decoded) if isinstance(text, bytes) else text for text in texts)))
        for name, texts in found.items()
    }
    return {name: text[:_MAX_LENGTH] for name, text in tags.items() if text}


def _of_mutagen(file: BinaryIO) -> Iterator[dict[str, list[Text]]]:
    """The tags of a file's own format, then ID3 tags around it."""
    if not _HAS_MUTAGEN:
        return
    own = _read(mutagen.File, file)
    tags = own.tags if own is not None else None
    yield _chosen(tags)
    if not isinstance(tags, ID3):
        yield _chosen(_read(ID3, file))


def _read(read: Callable[[BinaryIO], Any], file: BinaryIO) -> Any:
    file.seek(0)
    try:
        return read(file)
    except ID3NoHeaderError:
        return None
    except Exception as error:  # Tags can be damaged in any way; the sound counts.
        log.info("tags cannot be read and are left out", error=type(error).__name__)
        return None


def _chosen(tags: Any) -> dict[str, list[Text]]:
    chosen: dict[str, list[Text]] = {}
    for name, keys in _KEYS.items() if tags else ():
        value = next((value for key in keys if (value := _value(tags, key)) is not None), None)
        if value is not None:
            texts = list(_texts(value))
            # ID3v2.3 ends a text at its first NUL, where ID3v2.4 and some writers of ID3v2.3 begin another value.
            chosen[name] = texts if name in _OF_SEVERAL else texts[:1]
    return chosen


def _value(tags: Any, key: str) -> Any:
    try:
        return tags[key]
    except (KeyError, ValueError):
        return None  # Vorbis comments refuse the keys of other formats.


def _texts(value: Any) -> Iterator[Text]:
    if isinstance(value, Frame):
        in_latin = getattr(value, "encoding", None) == Encoding.LATIN1
        for text in map(str, getattr(value, "genres" if value.FrameID == "TCON" else "text", ())):
            is_raw = in_latin and all(character <= "\xff" for character in text)
            yield text.encode("latin-1") if is_raw else text
        return
    values = [value] if isinstance(value, str) or not isinstance(value, Iterable) else value
    for one in values:
        yield str(one[0] if isinstance(one, tuple) else getattr(one, "value", one))


def _of_ffmpeg(metadata: Mapping[str, str]) -> dict[str, list[Text]]:
    return {
        name.lower(): [text.encode("latin-1", "replace")] for name, text in metadata.items() if name.lower() in _KEYS
    }
