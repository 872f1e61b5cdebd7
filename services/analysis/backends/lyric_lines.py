"""Words to lines as a singer would read them, and guards against words that nobody sang."""

import re
from collections.abc import Sequence

from services.analysis.backends.base import Line, Word

LONGEST_LINE_SECONDS = 8.0
LONGEST_LINE_WORDS = 12
BREATH_SECONDS = 0.9
SHORTEST_WORD_SECONDS = 0.02
MOST_REPEATS = 4


def lines_of(segments: Sequence[Sequence[Word]], duration: float) -> tuple[Line, ...]:
    """Lines of a whole track.

    Args:
        segments: words of each recognised phrase, in time.
        duration: of the track in seconds; no word lasts longer than it.

    Returns:
        Lines in time, words inside the track and one after another. A phrase is broken at breaths, after the end of a
        sentence, and where it gets too long to read; a phrase repeated over and over is cut (Whisper loops on hums).
    """
    lines: list[Line] = []
    clock = 0.0
    for words in segments:
        ordered: list[Word] = []
        for word in words:
            start = min(max(word.start, clock), duration)
            end = min(max(word.end, start + SHORTEST_WORD_SECONDS), duration)
            if word.text and end > start:
                ordered.append(Word(start, end, word.text, word.confidence))
                clock = end
        for group in _groups(ordered):
            text = " ".join(word.text for word in group)
            if [_plain(line.text) for line in lines[-MOST_REPEATS:]] != [_plain(text)] * MOST_REPEATS:
                lines.append(Line(group[0].start, group[-1].end, text, tuple(group)))
    return tuple(lines)


def _groups(words: list[Word]) -> list[list[Word]]:
    groups: list[list[Word]] = []
    for word in words:
        if groups and not _breaks(groups[-1], word):
            groups[-1].append(word)
        else:
            groups.append([word])
    return groups


def _breaks(group: list[Word], following: Word) -> bool:
    last = group[-1]
    full = len(group) >= LONGEST_LINE_WORDS or following.end - group[0].start > LONGEST_LINE_SECONDS
    sentence_ends = last.text[-1] in ".!?;" and len(group) >= 3
    return full or sentence_ends or following.start - last.end > BREATH_SECONDS


def _plain(text: str) -> str:
    return re.sub(r"\W+", " ", text.lower()).strip()
