"""Finds times for given lyrics by matching their words with recognised words, which have times."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from services.analysis.backends.base import Line, Word
from services.analysis.backends.lyrics.lines import UNSPACED
from services.analysis.backends.lyrics.text import GivenWord, match
from services.analysis.backends.lyrics.windows import Span


def share_out(given: Sequence[GivenWord], heard: Sequence[Word], windows: Sequence[Span]) -> list[list[GivenWord]]:
    """Assigns the given words to windows, in order.

    A word that was heard belongs to the window where it was heard. The words between two of these are spread evenly
    over the sung time between them.

    Args:
        given: the words of the text.
        heard: the recognised words, in order.
        windows: where something is sung, at least one, in order.
    """
    found = match([word.text for word in given], [word.text for word in heard])
    known = [(index, heard[at].start) for index, at in enumerate(found) if at is not None]
    starts, ends = (np.array(side) for side in zip(*windows, strict=True))
    lengths = ends - starts
    before = np.cumsum(lengths) - lengths

    def sung(time: float) -> float:
        """Seconds of the windows up to a time."""
        at = max(int(np.searchsorted(starts, time, "right")) - 1, 0)
        return float(before[at] + min(max(time - starts[at], 0.0), lengths[at]))

    places = [-1.0, *(index for index, _ in known), float(len(given))]
    times = [0.0, *(sung(time) for _, time in known), float(lengths.sum())]
    each = np.interp(np.arange(len(given)), places, np.maximum.accumulate(times))
    numbers = np.clip(np.searchsorted(before, each, "right") - 1, 0, len(windows) - 1)
    shared: list[list[GivenWord]] = [[] for _ in windows]
    for word, number in zip(given, numbers.tolist(), strict=True):
        shared[number].append(word)
    return shared


def lines_as_given(
    given: Sequence[GivenWord], words: Sequence[Word], duration: float, language: str
) -> tuple[Line, ...]:
    """The lines of the text with the times of their words.

    Args:
        given: the words of the text.
        words: the same words with times; times that are out of order are corrected.
        duration: of the track in seconds.
        language: says whether words are written with spaces between them.
    """
    separator = "" if language in UNSPACED else " "
    starts = np.maximum.accumulate(np.clip([word.start for word in words], 0.0, duration)).tolist()
    following = [*starts[1:], duration]
    timed = [
        Word(start, min(max(word.end, start), following_start), word.text, word.confidence)
        for word, start, following_start in zip(words, starts, following, strict=True)
    ]
    lines: list[Line] = []
    for _, pairs in groupby(zip(given, timed, strict=True), key=lambda pair: pair[0].line):
        line = tuple(word for _, word in pairs)
        lines.append(Line(line[0].start, line[-1].end, separator.join(word.text for word in line), line))
    return tuple(lines)
