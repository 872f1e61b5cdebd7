"""Labels for Audacity: one label per line, with start, end and text separated by tabs."""

from collections.abc import Callable, Iterable

from gateway.exports.export import Document, Export, FileType, Option, Options, Track
from gateway.exports.track import beats_of, chords_of, lines_of, one_line, sections_of

TYPE = FileType(".labels.txt", "text/plain")
Label = tuple[float, float, str]


def make(track: Track, options: Options) -> Document:
    """One label track."""
    rows = [
        f"{max(start, 0.0):.6f}\t{end:.6f}\t{one_line(text)}" for start, end, text in _LABELS[options["labels"]](track)
    ]
    return Document(TYPE, "\n".join(rows) + "\n")


def _sections(track: Track) -> Iterable[Label]:
    return ((part.start, part.end, part.label) for part in sections_of(track))


def _chords(track: Track) -> Iterable[Label]:
    return ((chord.start, chord.end, chord.label) for chord in chords_of(track))


def _beats(track: Track) -> Iterable[Label]:
    return ((beat.time, beat.time, str(beat.position or "")) for beat in beats_of(track))


def _lines(track: Track) -> Iterable[Label]:
    return ((line.start, line.end, line.text) for line in lines_of(track))


def _words(track: Track) -> Iterable[Label]:
    return ((word.start, word.end, word.text) for line in lines_of(track) for word in line.words)


_LABELS: dict[str, Callable[[Track], Iterable[Label]]] = {
    "sections": _sections,
    "chords": _chords,
    "beats": _beats,
    "lines": _lines,
    "words": _words,
}
EXPORT = Export(
    name="audacity",
    summary="A label track for Audacity.",
    make=make,
    options=(Option("labels", "What the labels show.", tuple(_LABELS)),),
)
