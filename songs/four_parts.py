"""Songs in four voices, as chorales: a chord on each beat, in lines of two bars that end with a held chord."""

import numpy as np

from songs.harmony import Chord, Harmony, chord, free_notes, nearest
from songs.players import Players
from songs.styles import Style

SOPRANO, BASS = 70, 45
_LEVEL = 0.28


class FourParts:
    """Plays passages in four voices.

    Args:
        players: get the notes.
        style: its `four_part` names the instrument.
        harmony: from which each line is drawn.
        rng: of chords and passing notes.
    """

    def __init__(self, players: Players, style: Style, harmony: Harmony, rng: np.random.Generator) -> None:
        self._players = players
        self._instrument = style.four_part
        self._size = style.beats
        self._harmony = harmony
        self._rng = rng
        self._soprano = float(SOPRANO)

    def play(self, tonic: int, scale: list[int], first: int, beats: int) -> list[tuple[float, str]]:
        """Plays `beats` beats from `first` on; returns the start and the name of each chord."""
        upbeat = self._players.upbeat
        line = 2 * self._size
        held = line - upbeat - (6 if self._size == 4 else 3)  # the last chord is on a heavy beat
        chords = []
        for start in range(first - upbeat, first - upbeat + beats, line):
            numerals = self._harmony.phrase(self._rng, line - held + 1, cadence=True)
            for place, numeral in enumerate(numerals):
                last = place == len(numerals) - 1
                sounding = chord(numeral, tonic)
                self._sound(sounding, scale, start + place, held if last else 1, last)
                chords.append((self._players.seconds(start + place), sounding.label))
        return chords

    def _sound(self, sounding: Chord, scale: list[int], beat: int, length: int, last: bool) -> None:
        tones = sounding.pitch_classes
        wanted = self._soprano + float(self._rng.integers(-3, 4)) + 0.15 * (SOPRANO - self._soprano)
        soprano = min((nearest(tone, wanted) for tone in tones), key=lambda pitch: abs(pitch - wanted))
        alto = max(_below(tone, soprano) for tone in tones)
        tenor = max(_below(tone, alto) for tone in tones)
        for pitch in (nearest(sounding.bass, BASS), tenor, alto):
            self._players.note(self._instrument, pitch, beat, 0.97 * length, _LEVEL)
        passing = not last and self._rng.random() < 0.35
        self._players.note(self._instrument, soprano, beat, 0.48 if passing else 0.97 * length, 1.2 * _LEVEL)
        if passing:
            near = [nearest(tone, soprano) for tone in free_notes(sounding, scale)]
            step = min((pitch for pitch in near if pitch != soprano), key=lambda pitch: abs(pitch - soprano))
            self._players.note(self._instrument, step, beat + 0.5, 0.48, 1.2 * _LEVEL)
        self._soprano = soprano


def _below(pitch_class: int, pitch: int) -> int:
    """The highest pitch of a pitch class below a pitch."""
    return pitch - 1 - (pitch - 1 - pitch_class) % 12
