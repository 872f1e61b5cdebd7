"""Finds the passages with singing in a vocals stem, and cuts them into windows for Whisper.

Whisper's own speech detector discards singing, so the level of the stem decides: without singing nothing is recognised,
and nothing can be invented. Whisper processes 30 s at a time. By itself it begins a window where its last phrase ended,
often in the middle of the next phrase. Cutting at the quietest moments instead lowered the word error rate on three
real songs from 0.38 to 0.34 on separated vocals, and from 0.31 to 0.29 on the mix (tiny.en).
"""

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from services.analysis.backends.base import Word
from services.common.samples import Samples

SAMPLE_RATE_HZ = 16_000
FRAME_SECONDS = 0.05
SILENCE_DBFS = -55.0
BELOW_LOUD_DB = 35.0
MARGIN_SECONDS = 0.4
LONGEST_REST_SECONDS = 3.0
SHORTEST_SUNG_SECONDS = 0.3
REST_BELOW_WORD_DB = 20.0
REST_FRAMES = 3
LONGEST_WINDOW_SECONDS = 26.0
SHORTEST_WINDOW_SECONDS = 16.0

Span = tuple[float, float]


class SungLevel:
    """The level of a vocals stem over time.

    A frame of 50 ms counts as sung if its level is above -55 dBFS and at most 35 dB below the loud parts (95th
    percentile).

    Args:
        sound: float32 [samples] at 16 kHz, the vocals.
    """

    def __init__(self, sound: Samples) -> None:
        frame = round(FRAME_SECONDS * SAMPLE_RATE_HZ)
        count = math.ceil(sound.size / frame)
        padded = np.pad(sound, (0, count * frame - sound.size)).reshape(count, frame)
        self._duration = sound.size / SAMPLE_RATE_HZ
        self._level = 10 * np.log10(np.square(padded, dtype=np.float64).mean(axis=1) + 1e-12)
        self._loud = float(np.percentile(self._level, 95)) if count else 0.0
        self._sung: npt.NDArray[np.bool_] = self._level > max(SILENCE_DBFS, self._loud - BELOW_LOUD_DB)

    def is_sung(self, start: float, end: float) -> bool:
        """Whether anything is sung between two times in seconds."""
        first = max(0, math.floor(start / FRAME_SECONDS))
        return bool(self._sung[first : math.ceil(end / FRAME_SECONDS)].any())

    def is_rest(self, time: float) -> bool:
        """Whether it is quiet enough around a time in seconds for no word to sound; see `begun`."""
        at = math.floor(time / FRAME_SECONDS)
        around = self._level[max(0, at - REST_FRAMES // 2) : at + REST_FRAMES // 2 + 1]
        return bool((around < self._loud - REST_BELOW_WORD_DB).all())

    def begun(self, word: Word) -> Word:
        """Removes the rest before a word, which Whisper counts as part of the word.

        A passage of 150 ms or more that is 20 dB below the word's loudest frame is not a consonant. On three real songs
        this reduced the mean absolute error of onsets from 0.21 to 0.15 s; 15 to 30 dB and 100 to 250 ms do the same.
        """
        first, last = round(max(word.start, 0.0) / FRAME_SECONDS), math.ceil(word.end / FRAME_SECONDS)
        levels = self._level[first:last]
        if levels.size <= REST_FRAMES:
            return word
        loudest = int(np.argmax(levels))
        quiet = levels[:loudest] < levels[loudest] - REST_BELOW_WORD_DB
        rests = [index for index in range(REST_FRAMES, loudest + 1) if quiet[index - REST_FRAMES : index].all()]
        return replace(word, start=max(word.start, (first + rests[-1]) * FRAME_SECONDS)) if rests else word

    def passages(self) -> list[Span]:
        """The sung passages as (start, end) in seconds, with margins and short rests."""
        spans: list[Span] = []
        for index in np.flatnonzero(self._sung).tolist():
            start, end = index * FRAME_SECONDS, (index + 1) * FRAME_SECONDS
            if spans and start - spans[-1][1] <= LONGEST_REST_SECONDS:
                spans[-1] = (spans[-1][0], end)
            else:
                spans.append((start, end))
        return [
            (max(start - MARGIN_SECONDS, 0.0), min(end + MARGIN_SECONDS, self._duration))
            for start, end in spans
            if end - start >= SHORTEST_SUNG_SECONDS
        ]

    def windows(self) -> list[Span]:
        """The passages; those too long for a window are cut at quiet moments, and several that fit are joined."""
        pieces = [piece for passage in self.passages() for piece in self._cut(passage)]
        windows: list[Span] = []
        for start, end in pieces:
            joined = windows and end - windows[-1][0] <= LONGEST_WINDOW_SECONDS
            if joined and start - windows[-1][1] <= LONGEST_REST_SECONDS:
                windows[-1] = (windows[-1][0], end)
            else:
                windows.append((start, end))
        return windows

    def _cut(self, passage: Span) -> list[Span]:
        start, end = passage
        pieces: list[Span] = []
        calm = np.convolve(np.pad(self._level, 3, mode="edge"), np.ones(7) / 7, mode="valid")
        while end - start > LONGEST_WINDOW_SECONDS:
            first = round((start + SHORTEST_WINDOW_SECONDS) / FRAME_SECONDS)
            last = math.floor((start + LONGEST_WINDOW_SECONDS) / FRAME_SECONDS)
            quietest = (first + int(np.argmin(calm[first:last])) + 0.5) * FRAME_SECONDS
            pieces.append((start, quietest))
            start = quietest
        return [*pieces, (start, end)]
