"""Sections and chords for REAPER's Region/Marker Manager, which imports CSV."""

import csv
import io

from gateway.exports.export import Document, Export, FileType, Options, Track
from gateway.exports.track import one_line, sections_of
from services.common.harte import name_of

TYPE = FileType(".reaper.csv", "text/csv")


def make(track: Track, _options: Options) -> Document:
    """Writes sections as regions and, if the track has them, chords as markers."""
    rows = [
        (f"R{number}", one_line(part.label), _time(part.start), _time(part.end), _time(part.end - part.start))
        for number, part in enumerate(sections_of(track), start=1)
    ]
    rows += [
        (f"M{number}", name_of(chord.label), _time(chord.start), "", "")
        for number, chord in enumerate(track.chords, start=1)
    ]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("#", "Name", "Start", "End", "Length"), *rows])
    return Document(TYPE, text.getvalue())


def _time(seconds: float) -> str:
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    return f"{minutes}:{milliseconds // 1000:02}.{milliseconds % 1000:03}"


EXPORT = Export(
    name="reaper", summary="Sections as regions and chords as markers, for REAPER's Region/Marker Manager.", make=make
)
