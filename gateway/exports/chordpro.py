"""Lyrics with chords as ChordPro (https://www.chordpro.org), and grids of bars for passages without singing.

A chord is placed before the word that begins nearest to it. Each line, and each bar of a grid, begins with the chord
that sounds there, so that it can be played by itself.
"""

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from gateway.exports.export import Document, Export, FileType, Option, Options, Track
from gateway.exports.track import Bar, bars_of, beat_seconds, chords_of, metre, one_line
from services.common.harte import name_of, parse, triad
from stemtube.analysis.v1 import music_pb2

TYPE = FileType(".cho", "text/plain")
BARS_IN_A_ROW = 4
CHORDS_IN_A_ROW = 8
_HARMLESS = str.maketrans("[]{}", "()()")


@dataclass(frozen=True, slots=True)
class _Line:
    """A sung line and the chords that begin in it or soon after it."""

    line: music_pb2.Line
    chords: list[music_pb2.Chord] = field(default_factory=list)

    @property
    def time(self) -> float:
        return (self.line.start + self.line.end) / 2


@dataclass(frozen=True, slots=True)
class _Heading:
    time: float
    label: str


@dataclass(frozen=True, slots=True)
class _Unsung:
    """A bar in which nobody sings, or a chord outside of all lines and bars."""

    time: float
    content: Bar | music_pb2.Chord


def make(track: Track, options: Options) -> Document:
    """Writes the whole song: headings, lines, grids."""
    if options["triads"] == "1":
        track = _simplified(track)
    harmony = _Harmony(chords_of(track))
    rows = list(_head(track))
    blocks = sorted(_blocks(track), key=lambda block: block.time)
    for kind, group in groupby(blocks, _kind):
        if kind is _Heading:
            rows += ["", *(f"{{comment: {_plain(block.label)}}}" for block in group if isinstance(block, _Heading))]
        elif kind is _Line:
            rows += [_sung(block, harmony) for block in group if isinstance(block, _Line)]
        else:
            contents = [block.content for block in group if isinstance(block, _Unsung)]
            bars = [content for content in contents if isinstance(content, Bar)]
            rows += _grid(bars, harmony) if bars else _row(contents)
    return Document(TYPE, "\n".join(rows) + "\n")


def _simplified(track: Track) -> Track:
    simple = Track()
    simple.CopyFrom(track)
    for chord in simple.chords:
        chord.label = triad(chord.label)
    return simple


_Block = _Line | _Heading | _Unsung


def _kind(block: _Block) -> object:
    return type(block.content) if isinstance(block, _Unsung) else type(block)


def _head(track: Track) -> Iterator[str]:
    key = track.key.tonic + ("m" if track.key.mode == "minor" else "")
    minutes, seconds = divmod(round(track.duration_seconds), 60)
    facts = {
        "title": track.title,
        "artist": track.artist,
        "key": key,
        "tempo": f"{track.tempo.bpm:.0f}" if track.tempo.bpm else "",
        "time": f"{metre(track)}/4" if track.beats else "",
        "duration": f"{minutes}:{seconds:02}",
    }
    return (f"{{{name}: {_plain(value)}}}" for name, value in facts.items() if value)


def _blocks(track: Track) -> Iterator[_Block]:
    """All blocks in order of time; for lines and bars that is their middle, so that a pick-up is in its section."""
    yield from (_Heading(section.start, section.label.capitalize()) for section in track.sections)
    lines = [_Line(line) for line in track.lyrics.lines if line.text.strip()]
    margin = beat_seconds(track)
    bars = [bar for bar in bars_of(track) if not any(_meet(bar, line.line, margin) for line in lines)]
    yield from (_Unsung((bar.start + bar.end) / 2, bar) for bar in bars)
    starts = [line.line.start for line in lines]
    for chord in track.chords:
        if any(bar.start - margin / 2 <= chord.start < bar.end - margin / 2 for bar in bars):
            continue
        # A chord belongs to a line if it begins up to a beat before the line, or up to a bar after its end.
        place = bisect.bisect_right(starts, chord.start + margin) - 1
        if place >= 0 and chord.start < lines[place].line.end + margin * metre(track):
            lines[place].chords.append(chord)
        elif parse(chord.label):
            yield _Unsung(chord.start, chord)
    yield from lines


def _meet(bar: Bar, line: music_pb2.Line, margin: float) -> bool:
    """Whether more than a beat of a line is sung in a bar."""
    shared = min(bar.end, line.end) - max(bar.start, line.start)
    return shared > min(margin, (line.end - line.start) / 2)


class _Harmony:
    """Finds the chord that sounds at a time."""

    def __init__(self, chords: Sequence[music_pb2.Chord]) -> None:
        self._starts = [chord.start for chord in chords]
        self._names = [name_of(chord.label) for chord in chords]

    def at(self, time: float) -> str:
        """The name of the chord that sounds at a time."""
        return self._names[max(bisect.bisect_right(self._starts, time) - 1, 0)]


def _sung(block: _Line, harmony: _Harmony) -> str:
    """A line with its chords; without word times, they are placed in proportion to the line's time."""
    words = [(word.start, one_line(word.text)) for word in block.line.words] or _spread(block.line)
    starts = [start for start, _ in words]
    before: list[list[str]] = [[] for _ in range(len(words) + 1)]
    for chord in block.chords:
        place = min(range(len(starts)), key=lambda word: abs(starts[word] - chord.start))
        if chord.start > block.line.end:
            place = len(words)
        before[place].append(name_of(chord.label))
    if not before[0]:
        before[0].append(harmony.at(starts[0]))
    texts = [*(_plain(text) for _, text in words), ""]
    return " ".join(
        "".join(f"[{name}]" for name in names) + text for names, text in zip(before, texts, strict=True)
    ).rstrip()


def _spread(line: music_pb2.Line) -> list[tuple[float, str]]:
    words = one_line(line.text).split()
    return [(line.start + (line.end - line.start) * n / len(words), word) for n, word in enumerate(words)]


def _grid(bars: Sequence[Bar], harmony: _Harmony) -> Iterator[str]:
    yield "{start_of_grid}"
    for first in range(0, len(bars), BARS_IN_A_ROW):
        row = bars[first : first + BARS_IN_A_ROW]
        yield "| " + " | ".join(" ".join(_cells(bar, harmony)) for bar in row) + " |"
    yield "{end_of_grid}"


def _cells(bar: Bar, harmony: _Harmony) -> Iterator[str]:
    """A cell for each beat: the chord that sounds in its middle, or a point if that has not changed."""
    shown = ""
    for beat, following in zip(bar.beats, [*bar.beats[1:], bar.end], strict=True):
        name = harmony.at((beat + following) / 2)
        yield "." if name == shown else name
        shown = name


def _row(chords: Sequence[music_pb2.Chord | Bar]) -> Iterator[str]:
    names = [f"[{name_of(chord.label)}]" for chord in chords if isinstance(chord, music_pb2.Chord)]
    for first in range(0, len(names), CHORDS_IN_A_ROW):
        yield " ".join(names[first : first + CHORDS_IN_A_ROW])


def _plain(text: str) -> str:
    return one_line(text).translate(_HARMLESS)


EXPORT = Export(
    name="chordpro",
    summary="Lyrics with chords above them, and grids of bars (ChordPro).",
    make=make,
    options=(Option("triads", "1: chords without extensions and other bass notes, for beginners.", ("0", "1")),),
)
