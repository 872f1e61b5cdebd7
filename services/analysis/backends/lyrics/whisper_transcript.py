"""Whisper's result for a window: converts tokens to phrases of timed words, and rejects unreliable ones."""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from services.analysis.backends.base import Word
from services.analysis.backends.lyrics.lines import UNSPACED

# Whisper's times come from its attention while it predicts a word, which is inside the word rather than at its start.
# On five recordings with hand-made or aligned times tiny.en was always late, by 0.08 to 0.12 s (median).
LATE_SECONDS = 0.1
# Whisper itself rejects text below this mean log-probability ("Thank you for watching!" over guitars). Of the correct
# words in three real songs, one in 1200 was in such a phrase.
LEAST_LOG_PROBABILITY = -1.0
# Single invented words over noise ("You") have 0.01 to 0.05; sung phrases are rarely below 0.3.
LEAST_WORD_PROBABILITY = 0.2
MOST_COMPRESSION = 2.4
# Learned from subtitles: note signs around sung text, and this word alone for music without text.
NOTES = " \u266a\u266b\U0001f3b5\U0001f3b6"
NOT_SUNG = "music"


@dataclass(frozen=True, slots=True)
class Transcript:
    """The words recognised in one window.

    Args:
        phrases: words that were recognised together, in the track's time.
        log_probability: mean over the words; without words, minus infinity.
    """

    phrases: tuple[tuple[Word, ...], ...] = ()
    log_probability: float = -math.inf

    @property
    def words(self) -> list[Word]:
        """All words in order."""
        return [word for phrase in self.phrases for word in phrase]

    def followed_by(self, rest: "Transcript") -> "Transcript":
        """This transcript, joined with that of the rest of the window."""
        if not self.words or not rest.words:
            return self if self.words else rest
        counts = len(self.words), len(rest.words)
        mean = (counts[0] * self.log_probability + counts[1] * rest.log_probability) / sum(counts)
        return Transcript(self.phrases + rest.phrases, mean)


def is_believable(text: str, log_probability: float) -> bool:
    """Whether a text was sung, rather than invented or repeated in a loop."""
    data = text.strip().encode()
    return log_probability >= LEAST_LOG_PROBABILITY and len(data) <= MOST_COMPRESSION * len(zlib.compress(data))


def phrases_of(tokens: Sequence[int], first_timestamp: int) -> tuple[list[list[int]], bool]:
    """The tokens of each phrase. Whisper writes phrases between timestamps; two timestamps separate two phrases.

    Args:
        tokens: generated for a window.
        first_timestamp: the token of time 0; larger ones are later times.

    Returns:
        The text tokens of the phrases, without an unfinished last phrase unless it is the only one; and whether the
        window has no more text, which a timestamp at the end means.
    """
    is_time = [token >= first_timestamp for token in tokens]
    cuts = [index for index in range(1, len(tokens)) if is_time[index - 1] and is_time[index]]
    is_all = len(tokens) >= 2 and not is_time[-2] and is_time[-1]
    if cuts and not is_all:
        tokens = tokens[: cuts[-1]]
    phrases = [
        [token for token in tokens[start:end] if token < first_timestamp]
        for start, end in pairwise([0, *cuts, len(tokens)])
    ]
    return [phrase for phrase in phrases if phrase], is_all


def words_of(parts: Sequence[Any], offset: float, language: str) -> list[Word]:
    """The words of a phrase, in the track's time; none if the phrase is unreliable.

    Args:
        parts: faster-whisper's timed words, with keys start, end (seconds), word and probability. Text without
            a space before it ("check-out") is one word with the text before.
        offset: of the window in the track, in seconds.
        language: says whether words are written with spaces between them.
    """
    parts = [part for part in parts if part["word"]]
    if not parts or sum(part["probability"] for part in parts) / len(parts) < LEAST_WORD_PROBABILITY:
        return []
    words: list[Word] = []
    for part in parts:
        start, end = (float(part[side]) + offset - LATE_SECONDS for side in ("start", "end"))
        text, confidence = part["word"].strip(NOTES), min(max(float(part["probability"]), 0.0), 1.0)
        if words and language not in UNSPACED and not part["word"].startswith(" "):
            first = words.pop()
            start, text, confidence = first.start, first.text + text, min(first.confidence, confidence)
        if any(character.isalnum() for character in text):
            words.append(Word(start, end, text, confidence))
    return [] if [word.text.lower() for word in words] == [NOT_SUNG] else words
