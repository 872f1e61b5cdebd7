"""Tables of scores in Markdown."""

from collections.abc import Iterable, Sequence

from bench.accuracy.intervals import Estimate, estimate
from bench.accuracy.references import Song
from bench.accuracy.scores import SCORINGS, Scores
from bench.accuracy.systems import UNMODIFIED

Found = dict[tuple[str, str], Scores]
"""Scores by way and song; a way that failed on a song has none."""


def overall(ways: Sequence[str], songs: Sequence[Song], found: Found) -> list[str]:
    """The mean of each way over all songs."""
    measures = _measures(ways, songs, found)
    lines = [f"| mean of {len(songs)} songs | {' | '.join(measures)} |", "|---" * (len(measures) + 1) + "|"]
    for way in ways:
        cells = [_cell(_estimate(way, songs, measure, found)) for measure in measures]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    for way in ways:
        failed = sum((way, song.name) not in found for song in songs)
        if failed:
            lines += ["", f"{way} failed on {failed} songs; its means leave them out."]
    return [*lines, ""]


def by_kind(part: str, ways: Sequence[str], songs: Sequence[Song], found: Found) -> list[str]:
    """A row for each kind: the default with intervals, and a library's own way beside it."""
    shown = [measure for measure in SCORINGS[part].shown if measure in _measures(ways[:1], songs, found)]
    own = SCORINGS[part].beside + UNMODIFIED
    beside = own if own in ways else ""
    columns = [column for measure in shown for column in (measure, *(["unmodified"] if beside else []))]
    lines = [f"| {ways[0]} | songs | {' | '.join(columns)} |", "|---" * (len(columns) + 2) + "|"]
    for kind in dict.fromkeys(song.kind for song in songs):
        members = [song for song in songs if song.kind == kind]
        cells = []
        for measure in shown:
            cells.append(_cell(_estimate(ways[0], members, measure, found)))
            if beside:
                mean = _estimate(beside, members, measure, found)
                cells.append(f"{mean.mean:.3f}" if mean else "")
        lines.append(f"| {kind} | {len(members)} | {' | '.join(cells)} |")
    if beside:
        lines += ["", f"`unmodified` is {own.removesuffix(UNMODIFIED)}'s own way."]
    return [*lines, ""]


def _measures(ways: Iterable[str], songs: Sequence[Song], found: Found) -> list[str]:
    return list(dict.fromkeys(measure for way in ways for song in songs for measure in found.get((way, song.name), {})))


def _estimate(way: str, songs: Sequence[Song], measure: str, found: Found) -> Estimate | None:
    values = [found[way, song.name].get(measure) for song in songs if (way, song.name) in found]
    known = [value for value in values if value is not None]
    return estimate(known) if known else None


def _cell(value: Estimate | None) -> str:
    return str(value) if value else ""
