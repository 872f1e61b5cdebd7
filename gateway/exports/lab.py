"""Chords, beats and sections as `.lab`: columns of text, which mir_eval and most of music research use."""

from gateway.exports.export import Document, Export, FileType, Option, Options, Track
from gateway.exports.track import beats_of, chords_of, one_line, sections_of

TEXT = "text/plain"


def make_chords(track: Track, _options: Options) -> Document:
    """Start, end, chord in Harte syntax."""
    return _segments(".chords.lab", [(chord.start, chord.end, chord.label) for chord in chords_of(track)])


def make_sections(track: Track, _options: Options) -> Document:
    """Start, end, label."""
    return _segments(".sections.lab", [(part.start, part.end, part.label) for part in sections_of(track)])


def make_beats(track: Track, options: Options) -> Document:
    """Time and, if asked for, place in the bar."""
    with_places = options["positions"] == "1"
    rows = [f"{beat.time:.6f}" + (f"\t{beat.position}" if with_places else "") for beat in beats_of(track)]
    return Document(FileType(".beats.lab", TEXT), _text(rows))


def _segments(suffix: str, segments: list[tuple[float, float, str]]) -> Document:
    # Readers split at any white space.
    rows = [f"{start:.6f}\t{end:.6f}\t{one_line(label).replace(' ', '_')}" for start, end, label in segments]
    return Document(FileType(suffix, TEXT), _text(rows))


def _text(rows: list[str]) -> str:
    return "\n".join(rows) + "\n"


CHORDS = Export(name="chords.lab", summary="Chords in Harte syntax as text columns.", make=make_chords)
SECTIONS = Export(name="sections.lab", summary="Sections as text columns.", make=make_sections)
BEATS = Export(
    name="beats.lab",
    summary="Beats as text, one a line.",
    make=make_beats,
    options=(Option("positions", "1: a second column with the place in the bar, 1 is the downbeat.", ("0", "1")),),
)
