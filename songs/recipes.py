"""What makes a song: its recipe. Two equal recipes are one song, to the sample."""

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

Effect = Literal["", "one channel inverted", "tape drift", "cut in mid-bar", "intro without pulse"]
Instruments = Literal["band", "acoustic"]


@dataclass(frozen=True, slots=True)
class Pulse:
    """The tempo of a song.

    Args:
        bpm: beats per minute, at the beginning.
        then: beats per minute after the change; 0 if there is none.
        gradual: the tempo changes all through the song, not at once in its middle.
        sway: largest slow change in both directions, as a fraction of the tempo.
        unrest: standard deviation of each beat's own change, as a fraction: of players without a click.
        phrasing: how much slower the end of each phrase of four bars is, as a fraction: rubato.
    """

    bpm: float
    then: float = 0.0
    gradual: bool = False
    sway: float = 0.0
    unrest: float = 0.0
    phrasing: float = 0.0

    def intervals(self, count: int, beats_per_phrase: int, rng: np.random.Generator) -> np.ndarray:
        """Seconds between `count` + 1 beats; a change at once is at the first beat of a phrase."""
        beat = np.arange(count)
        tempo = np.full(count, self.bpm)
        if self.then and self.gradual:
            tempo = np.linspace(self.bpm, self.then, count)
        elif self.then:
            tempo[round(count / 2 / beats_per_phrase) * beats_per_phrase :] = self.then
        tempo = tempo * (1 + self.sway * np.sin(2 * np.pi * (beat / 28 + rng.random())))
        tempo = tempo * (1 + self.unrest * rng.standard_normal(count).clip(-2, 2))
        place = beat % beats_per_phrase / beats_per_phrase
        tempo = tempo * (1 - self.phrasing * np.clip(4 * place - 3, 0.0, 1.0))
        return np.asarray(60.0 / tempo)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A song.

    Args:
        kind: the kind of recording that it is an example of: a row of the tables.
        style: one of `songs.styles.STYLES`.
        pulse: the tempo.
        harmony: one of `songs.harmony.HARMONIES`.
        form: one of `songs.forms.FORMS`.
        upbeat: beats before the first bar.
        tuning_cents: of all pitched notes, from A = 440 Hz.
        effect: what happened to the recording.
        instruments: the synthesiser.
        number: tells recipes apart that are equal otherwise.
    """

    kind: str
    style: str
    pulse: Pulse
    harmony: str = "major"
    form: str = "verses"
    upbeat: int = 0
    tuning_cents: float = 0.0
    effect: Effect = ""
    instruments: Instruments = "band"
    number: int = 0

    @property
    def name(self) -> str:
        """A name that is unique in `songs.collection`; all random choices follow from it."""
        return f"{self.kind} {self.number:02}, {self.style} {self.pulse.bpm:.0f}"

    def random(self, purpose: str) -> np.random.Generator:
        """Random numbers that depend on the song's name and a purpose alone."""
        digest = hashlib.sha256(f"{self.name}: {purpose}".encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "big"))
