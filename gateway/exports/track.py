"""Access to a track for exports: its parts, or an error that names the missing part; bars; file names."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NoReturn

from gateway.exports.export import Option, Options, Track, TrackStem
from services.common.errors import InvalidInputError, NotFoundError
from services.common.file_names import file_name
from stemtube.analysis.v1 import music_pb2

MODEL = Option("model", "The separation model of the stems; required if there are several, except for `stems`.")
USUAL_BPM = 120.0
USUAL_METRE = 4


def beats_of(track: Track) -> Sequence[music_pb2.Beat]:
    """The beats.

    Raises:
        NotFoundError: the track has no beats (reason NO_BEATS).
    """
    return track.beats or _missing("beats")


def chords_of(track: Track) -> Sequence[music_pb2.Chord]:
    """The chords.

    Raises:
        NotFoundError: the track has no chords (reason NO_CHORDS).
    """
    return track.chords or _missing("chords")


def sections_of(track: Track) -> Sequence[music_pb2.Section]:
    """The sections.

    Raises:
        NotFoundError: the track has no sections (reason NO_SECTIONS).
    """
    return track.sections or _missing("sections")


def lines_of(track: Track) -> Sequence[music_pb2.Line]:
    """The lines of the lyrics.

    Raises:
        NotFoundError: the track has no lyrics (reason NO_LYRICS).
    """
    return track.lyrics.lines or _missing("lyrics")


def stems_of(track: Track, options: Options) -> Sequence[TrackStem]:
    """The stems of one separation: the one that the option `model` names, or the only one.

    Raises:
        NotFoundError: there are no stems, or none of that model (reason NO_STEMS).
        InvalidInputError: there are several models, and none is named (reason BAD_REQUEST).
    """
    wanted = options["model"]
    models = sorted({stem.model for stem in track.stems})
    if not models:
        _missing("stems")
    if not wanted and len(models) > 1:
        raise InvalidInputError(f"There are stems of several models: say model={' or '.join(models)}.", "BAD_REQUEST")
    stems = [stem for stem in track.stems if stem.model == (wanted or models[0])]
    if not stems:
        raise NotFoundError(f"There are no stems of that model, only of {', '.join(models)}.", "NO_STEMS")
    return stems


def _missing(part: str) -> NoReturn:
    raise NotFoundError(f"The track has no {part}.", f"NO_{part.upper()}")


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar: its start and end, and the times of its beats, in seconds."""

    start: float
    end: float
    beats: tuple[float, ...]


def bars_of(track: Track) -> list[Bar]:
    """The bars, from downbeat to downbeat; none without downbeats.

    The end of the last bar follows from its beats. Beats before the first downbeat are in no bar.
    """
    bars: list[list[float]] = []
    for beat in track.beats:
        if beat.position == 1:
            bars.append([])
        if bars:
            bars[-1].append(beat.time)
    if not bars:
        return []
    starts = [beats[0] for beats in bars]
    end = bars[-1][-1] + beat_seconds(track)
    return [
        Bar(start, following, tuple(beats))
        for start, following, beats in zip(starts, [*starts[1:], end], bars, strict=True)
    ]


def beat_seconds(track: Track) -> float:
    """The usual time from beat to beat, in seconds."""
    if len(track.beats) > 1:
        return statistics.median(other.time - one.time for one, other in pairwise(track.beats))
    return 60.0 / (track.tempo.bpm or USUAL_BPM)


def metre(track: Track) -> int:
    """Beats in a bar; four if unknown."""
    return track.beats_per_bar or USUAL_METRE


def one_line(text: str) -> str:
    """Text without line breaks, tabs and double spaces."""
    return " ".join(text.split())


def named_after(track: Track) -> str:
    """`Artist - Title` as a file name, without an ending."""
    return file_name(f"{track.artist} - {track.title}" if track.artist else track.title)
