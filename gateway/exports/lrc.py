"""Lyrics as LRC. Players show it line by line or, in its enhanced form (A2), word by word."""

from collections.abc import Iterator

from gateway.exports.export import Document, Export, FileType, Option, Options, Track
from gateway.exports.track import lines_of, one_line
from stemtube.analysis.v1 import music_pb2

TYPE = FileType(".lrc", "text/plain")
PAUSE_SECONDS = 5.0
"""A line has no end in LRC, so before a longer pause than this an empty line clears the screen."""


def make(track: Track, options: Options) -> Document:
    """The lyrics, one line each, in order."""
    lines = list(lines_of(track))
    by_word = options["words"] == "1"
    rows = [f"[{name}:{value}]" for name, value in _tags(track) if value]
    for line, following in zip(lines, [*lines[1:], None], strict=True):
        rows.append(f"[{_time(line.start)}]{_words(line) if by_word and line.words else one_line(line.text)}")
        if following is None or following.start - line.end > PAUSE_SECONDS:
            rows.append(f"[{_time(line.end)}]")
    return Document(TYPE, "\n".join(rows) + "\n")


def _tags(track: Track) -> Iterator[tuple[str, str]]:
    for name, text in (("ti", track.title), ("ar", track.artist)):
        yield name, one_line(text).replace("[", "(").replace("]", ")")
    yield "length", _time(track.duration_seconds).partition(".")[0]
    yield "re", "StemTube"


def _words(line: music_pb2.Line) -> str:
    words = " ".join(f"<{_time(word.start)}>{one_line(word.text)}" for word in line.words)
    return f"{words} <{_time(line.words[-1].end)}>"


def _time(seconds: float) -> str:
    minutes, hundredths = divmod(round(max(seconds, 0.0) * 100), 6000)
    return f"{minutes:02}:{hundredths // 100:02}.{hundredths % 100:02}"


EXPORT = Export(
    name="lrc",
    summary="Lyrics with the time of each line (LRC).",
    make=make,
    options=(Option("words", "1: the time of each word too (enhanced LRC).", ("0", "1")),),
)
