"""Lines and words of given lyrics, and their alignment with recognised words."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.common.errors import InvalidInputError
from services.common.limits import MAX_LYRICS_TEXT

# Two words with at least this likeness count as the same word, misheard; see `_likeness`.
ALIKE = 0.6
# Share of words that found lyrics and heard words have in common if they are of the same song. With tiny.en it was 0.66
# and 0.89 on two songs, and at most 0.16 between a song and the words of another.
LEAST_IN_COMMON = 0.35


@dataclass(frozen=True, slots=True)
class GivenWord:
    """A word of a given text and the number of its line."""

    text: str
    line: int


def check_text(text: str) -> None:
    """Checks that a text can be the lyrics of a song.

    Raises:
        InvalidInputError: too long, or without words (reason INVALID_TEXT).
    """
    if len(text) > MAX_LYRICS_TEXT:
        raise InvalidInputError(f"text of lyrics has at most {MAX_LYRICS_TEXT} characters", "INVALID_TEXT")
    if not words_of(text):
        raise InvalidInputError("text of lyrics has no words", "INVALID_TEXT")


def words_of(text: str) -> list[GivenWord]:
    """The words of a text in order, without lines in brackets ("[Chorus]"), which are not sung."""
    lines = [line.strip() for line in text.splitlines()]
    sung = [line for line in lines if not (line.startswith("[") and line.endswith("]"))]
    return [
        GivenWord(word, number)
        for number, line in enumerate(sung)
        for word in line.split()
        if any(character.isalnum() for character in word)
    ]


def plain(word: str) -> str:
    """A word for comparison: only letters and digits, without case and accents."""
    parts = unicodedata.normalize("NFKD", word.casefold())
    return "".join(character for character in parts if character.isalnum())


def match(given: Sequence[str], heard: Sequence[str]) -> list[int | None]:
    """For each given word the index of the matching heard word, in order; None for a word that was not heard.

    Finds the pairs with the highest sum of likenesses (Needleman and Wunsch, 1970, with free gaps), so a chorus that
    was misheard once is not matched with its next repetition.
    """
    if not given or not heard:
        return [None] * len(given)
    likeness = _likeness([plain(word) for word in given], [plain(word) for word in heard])
    best = np.zeros((len(given) + 1, len(heard) + 1), np.float32)
    for row, alike in enumerate(likeness):
        best[row + 1, 1:] = np.maximum.accumulate(np.maximum(best[row, 1:], best[row, :-1] + alike))
    found: list[int | None] = [None] * len(given)
    row, column = len(given), len(heard)
    while row and column:
        here = best[row, column]
        if here == best[row - 1, column]:
            row -= 1
        elif here == best[row, column - 1]:
            column -= 1
        else:
            row, column = row - 1, column - 1
            found[row] = column
    return found


def is_same_song(given: Sequence[str], heard: Sequence[str]) -> bool:
    """Whether found words belong to the song in which the others were heard."""
    common = sum(at is not None for at in match(given, heard))
    return common > 0 and common >= LEAST_IN_COMMON * max(len(given), len(heard))


def _likeness(given: list[str], heard: list[str]) -> npt.NDArray[np.float32]:
    """[given, heard] in [0, 1]: the share of pairs of neighbouring letters that two words have in common (Dice)."""
    pairs = [[{f"^{word}$"[i : i + 2] for i in range(len(word) + 1)} for word in words] for words in (given, heard)]
    numbers = {pair: number for number, pair in enumerate(sorted(set().union(*pairs[0], *pairs[1])))}
    counts = [np.zeros((len(words), len(numbers)), np.float32) for words in pairs]
    for words, count in zip(pairs, counts, strict=True):
        for index, word in enumerate(words):
            count[index, [numbers[pair] for pair in word]] = 1.0
    sizes = counts[0].sum(axis=1)[:, None] + counts[1].sum(axis=1)
    likeness: npt.NDArray[np.float32] = 2 * (counts[0] @ counts[1].T) / sizes
    return np.where(likeness >= ALIKE, likeness, 0).astype(np.float32)
