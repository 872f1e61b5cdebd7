"""The audio formats of exports; `services.common.audio` writes them in another process."""

from gateway.exports.export import FileType, Option

ENCODINGS = {
    "flac": FileType(".flac", "audio/flac"),
    "wav": FileType(".wav", "audio/wav"),
    "mp3": FileType(".mp3", "audio/mpeg"),
    "m4a": FileType(".m4a", "audio/mp4"),
    "opus": FileType(".opus", "audio/ogg; codecs=opus"),
}
ENCODING = Option("encoding", "FLAC and WAV hold 24 bits; the others are lossy.", tuple(ENCODINGS))


def named(name: str, encoding: str) -> FileType:
    """The type of a file with this encoding."""
    kind = ENCODINGS[encoding]
    return FileType(f".{name}{kind.suffix}", kind.content_type)
