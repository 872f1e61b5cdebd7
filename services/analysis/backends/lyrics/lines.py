"""Divides words into readable lines, and removes words that nobody sang."""

import re
from collections.abc import Sequence

from services.analysis.backends.base import Line, Word

LONGEST_LINE_SECONDS = 8.0
LONGEST_LINE_WORDS = 12
BREATH_SECONDS = 0.9
SHORTEST_WORD_SECONDS = 0.02
MOST_REPEATS = 4
# The weights of a comma, a capital letter and an even cut, as seconds of pause.
COMMA_WORTH = 0.6
CAPITAL_WORTH = 0.4
BALANCE_WORTH = 0.8
SENTENCE_ENDS = ".!?;\u3002\uff01\uff1f"  # the last three are Chinese and Japanese
CLAUSE_ENDS = ",:\u3001\uff0c" + SENTENCE_ENDS
# Written without spaces between words.
UNSPACED = {"zh", "ja", "th", "lo", "my", "yue"}


def lines_of(phrases: Sequence[Sequence[Word]], duration: float, language: str = "en") -> tuple[Line, ...]:
    """Lines of a whole track.

    Args:
        phrases: words of each recognised phrase, in time.
        duration: of the track in seconds; no word lasts longer than it.
        language: says whether words are written with spaces between them.

    Returns:
        Lines in order of time; words are inside the track and do not overlap. A phrase is divided at breaths, at the
        end of a sentence, and, if it is too long to read, at the best place. A line that is repeated over and over is
        cut (Whisper loops on hums).
    """
    separator = "" if language in UNSPACED else " "
    lines: list[Line] = []
    clock = 0.0
    for words in phrases:
        ordered = _in_order(words, clock, duration)
        clock = ordered[-1].end if ordered else clock
        for group in _groups(ordered):
            text = separator.join(word.text for word in group)
            if [_plain(line.text) for line in lines[-MOST_REPEATS:]] != [_plain(text)] * MOST_REPEATS:
                lines.append(Line(group[0].start, group[-1].end, text, tuple(group)))
    return tuple(lines)


def _in_order(words: Sequence[Word], clock: float, duration: float) -> list[Word]:
    """The words from `clock` on, inside the track; none begins before the previous one ends."""
    ordered: list[Word] = []
    for word in words:
        start = min(max(word.start, clock), duration)
        end = min(max(word.end, start + SHORTEST_WORD_SECONDS), duration)
        if word.text and end > start:
            ordered.append(Word(start, end, word.text, word.confidence))
            clock = end
    return ordered


def _groups(words: list[Word]) -> list[list[Word]]:
    groups: list[list[Word]] = []
    for word in words:
        if groups and not _breaks(groups[-1], word):
            groups[-1].append(word)
        else:
            groups.append([word])
    return [line for group in groups for line in _readable(group)]


def _breaks(group: list[Word], following: Word) -> bool:
    last = group[-1]
    sentence_ends = last.text[-1] in SENTENCE_ENDS and len(group) >= 3
    return sentence_ends or following.start - last.end > BREATH_SECONDS


def _readable(group: list[Word]) -> list[list[Word]]:
    """Halves a group at its best place until every part is short enough to read."""
    too_long = len(group) > LONGEST_LINE_WORDS or group[-1].end - group[0].start > LONGEST_LINE_SECONDS
    if not too_long or len(group) < 2:
        return [group]
    at = max(range(1, len(group)), key=lambda index: _cut_worth(group, index))
    return _readable(group[:at]) + _readable(group[at:])


def _cut_worth(group: list[Word], at: int) -> float:
    """The score for breaking a line before word `at`, in seconds of pause."""
    before, after = group[at - 1], group[at]
    worth = min(after.start - before.end, BREATH_SECONDS)
    if before.text[-1] in CLAUSE_ENDS:
        worth += COMMA_WORTH
    if after.text[0].isupper() and not re.match(r"I\b", after.text):
        worth += CAPITAL_WORTH
    return worth - BALANCE_WORTH * abs(2 * at / len(group) - 1)


def _plain(text: str) -> str:
    return re.sub(r"\W+", " ", text.lower()).strip()
