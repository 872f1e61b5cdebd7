"""Lyrics as subtitles (SubRip)."""

from gateway.exports.export import Document, Export, FileType, Options, Track
from gateway.exports.track import lines_of, one_line

TYPE = FileType(".srt", "application/x-subrip")
SHORTEST_MILLISECONDS = 100


def make(track: Track, _options: Options) -> Document:
    """Writes a subtitle for each line; each ends before the next one begins."""
    lines = list(lines_of(track))
    starts = [max(round(line.start * 1000), 0) for line in lines]
    blocks = []
    for number, (line, start) in enumerate(zip(lines, starts, strict=True), start=1):
        end = round(line.end * 1000)
        if number < len(lines) and starts[number] > start:
            end = min(end, starts[number])
        # Players ignore subtitles without duration.
        end = max(end, start + SHORTEST_MILLISECONDS)
        text = one_line(line.text).replace("-->", "→")
        blocks.append(f"{number}\n{_time(start)} --> {_time(end)}\n{text}\n")
    return Document(TYPE, "\n".join(blocks))


def _time(milliseconds: int) -> str:
    seconds, milliseconds = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02},{milliseconds:03}"


EXPORT = Export(name="srt", summary="Lyrics as subtitles (SubRip).", make=make)
