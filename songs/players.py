"""The players of a made song: they turn beats into seconds, a few milliseconds early or late, as people do."""

import numpy as np

from songs.score import Note, Signal

UNEVENNESS_SECONDS = 0.003  # standard deviation of a note's start
MOST_UNEVENNESS_SECONDS = 0.008
DRUM_SECONDS = 0.0  # a stroke rings as long as its drum does


class Players:
    """Collects the notes of a song.

    Args:
        times: seconds of each beat, from the upbeat to the end of the last bar.
        upbeat: beats before the first bar.
        rng: of the players' unevenness.
    """

    def __init__(self, times: Signal, upbeat: int, rng: np.random.Generator) -> None:
        self.times = times
        self.rng = rng
        self.notes: list[Note] = []
        self.upbeat = upbeat

    def seconds(self, beat: float) -> float:
        """The time of a beat; beat 0 is the first downbeat."""
        return float(np.interp(beat + self.upbeat, np.arange(len(self.times)), self.times))

    def note(self, instrument: str, pitch: int, beat: float, length: float, level: float) -> None:
        """Adds a note at a beat, for `length` beats."""
        start = self.seconds(beat)
        self.note_at(instrument, pitch, start, self.seconds(beat + length) - start, level)

    def note_at(self, instrument: str, pitch: int, start: float, seconds: float, level: float) -> None:
        """Adds a note at a time in seconds."""
        # Lengths in steps of 20 ms let instruments reuse their notes.
        self._add(instrument, pitch, start, max(0.08, round(seconds / 0.02) * 0.02), level)

    def hit(self, drum: str, beat: float, level: float) -> None:
        """Adds a stroke of a drum."""
        self._add(drum, None, self.seconds(beat), DRUM_SECONDS, level)

    def _add(self, instrument: str, pitch: int | None, start: float, seconds: float, level: float) -> None:
        late = np.clip(
            UNEVENNESS_SECONDS * self.rng.standard_normal(), -MOST_UNEVENNESS_SECONDS, MOST_UNEVENNESS_SECONDS
        )
        played = level * float(self.rng.uniform(0.85, 1.0))
        self.notes.append(Note(max(0.0, start + float(late)), round(seconds, 2), instrument, pitch, played))
