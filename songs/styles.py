"""Styles of the songs in `songs.beat_songs`; a style is a function that fills a score."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt

from songs import band
from songs.chord_names import NO_CHORD, harte

SAMPLE_RATE_HZ = band.SAMPLE_RATE_HZ
TAIL_SECONDS = 1.2

Signal = npt.NDArray[np.float64]
Voice = Callable[[int, float], Signal]


@dataclass(frozen=True, slots=True)
class Recipe:
    """The description of a song.

    Args:
        category: the kind of song in tables.
        style: one of `STYLES`.
        bpm: beats per minute.
        beats_per_bar: of the meter.
        upbeat: beats before the first bar.
        drift: largest change of the tempo in both directions, as a fraction.
        seed: for random choices of key, chords and melody.
    """

    category: str
    style: str
    bpm: float
    beats_per_bar: int = 4
    upbeat: int = 0
    drift: float = 0.0
    seed: int = 0

    @property
    def name(self) -> str:
        """A name that is unique among `beat_songs.recipes`."""
        return f"{self.category} {self.style} {self.beats_per_bar} {self.bpm:.0f} {self.seed}"


@dataclass(slots=True)
class Score:
    """A song that a style fills with sounds; positions are in beats from the first downbeat.

    `played` has the chords with their first beats: those of the bars, unless the style plays others.
    """

    recipe: Recipe
    times: Signal
    rng: np.random.Generator
    scale: tuple[int, ...]
    tonic: int
    chords: list[int]
    sound: Signal = field(init=False)
    played: list[tuple[float, str]] = field(init=False)

    def __post_init__(self) -> None:
        size = self.recipe.beats_per_bar
        self.played = [(bar * size, self.label(degree)) for bar, degree in enumerate(self.chords)]
        self.sound = np.zeros(round((self.times[-1] + TAIL_SECONDS) * SAMPLE_RATE_HZ))

    def seconds(self, beat: float) -> float:
        """The time of a beat, in seconds."""
        return float(np.interp(beat + self.recipe.upbeat, np.arange(len(self.times)), self.times))

    def add(self, sound: Signal, beat: float, level: float) -> None:
        """Adds a sound, a few milliseconds early or late, as when people play."""
        at = max(0, round((self.seconds(beat) + 0.003 * self.rng.standard_normal()) * SAMPLE_RATE_HZ))
        end = min(len(self.sound), at + len(sound))
        self.sound[at:end] += level * self.rng.uniform(0.85, 1.0) * sound[: end - at]

    def play(self, voice: Voice, pitches: Sequence[int], beat: float, length: float, level: float) -> None:
        """Adds a note for each pitch."""
        # Lengths in steps of 10 ms let the band reuse its notes.
        seconds = max(0.08, round(self.seconds(beat + length) - self.seconds(beat), 2))
        for pitch in pitches:
            self.add(voice(pitch, seconds), beat, level)

    def pitch(self, degree: int, around: int) -> int:
        """The first note above `around - 6` with this degree of the scale (degree 0 is the tonic)."""
        number = self.tonic + self.scale[degree % 7]
        return around - 6 + (number - around + 6) % 12

    def triad(self, bar: int, around: int = 60) -> list[int]:
        """The pitches of a bar's chord, near the pitch `around`."""
        return [self.pitch(self.chords[bar] + step, around) for step in (0, 2, 4)]

    def label(self, degree: int, tones: int = 3, inversion: int = 0) -> str:
        """The name of a chord of `tones` tones on a degree of the scale; the bass is `inversion` degrees above."""
        root = self.scale[degree % 7]
        above = [(self.scale[(degree + step) % 7] - root) % 12 for step in range(0, 2 * tones, 2)]
        return harte(self.tonic + root, above, above[inversion // 2])

    def root(self, bar: int) -> int:
        """The bass note of a bar."""
        return self.pitch(self.chords[bar], 40)


def _bars(score: Score) -> list[tuple[int, int]]:
    """Number and first beat of each bar."""
    size = score.recipe.beats_per_bar
    return [(bar, bar * size) for bar in range(len(score.chords))]


def _tune(score: Score, voice: Voice, level: float, parts: int = 2) -> None:
    """Plays a melody: verses and choruses repeat a rhythm of two bars each, and the notes follow the chords."""
    size = score.recipe.beats_per_bar
    rhythms = []
    for _ in range(2):
        steps = np.arange(2 * size * parts)
        chance = np.where(steps % parts == 0, 0.7, 0.3)
        chance[:: size * parts] = 0.9
        rhythms.append(np.flatnonzero(score.rng.random(len(steps)) < chance))
    degree = 7
    for bar, at in _bars(score)[:-1:2]:
        rhythm = rhythms[bar // 8 % 2]
        for index, step in enumerate(rhythm):
            chord = score.chords[bar + int(step >= size * parts)]
            degree += int(score.rng.choice((-2, -1, 0, 1, 2)))
            degree = int(np.clip(degree, 2, 12))
            if step % parts == 0:
                degree = min((chord + tone + 7 * octave for tone in (0, 2, 4) for octave in (0, 1)),
                             key=lambda tone: abs(tone - degree))  # fmt: skip
            following = rhythm[index + 1] if index + 1 < len(rhythm) else 2 * size * parts
            pitch = score.tonic + score.scale[degree % 7] + 12 * (degree // 7) + 55
            score.play(voice, [pitch], at + step / parts, (following - step) / parts * 0.95, level)
    for beat in range(-score.recipe.upbeat * parts, 0):
        score.play(voice, [score.pitch(4 + beat, 67)], beat / parts, 0.9 / parts, level)


def _end(score: Score, bar: int, at: int) -> bool:
    """Plays one long chord in the last bar of a song; returns whether `bar` is the last one."""
    if bar < len(score.chords) - 1:
        return False
    score.play(band.piano, [score.root(bar), *score.triad(bar)], at, score.recipe.beats_per_bar, 0.3)
    return True


def _rock(score: Score, drums_alone: bool = False) -> None:
    size = score.recipe.beats_per_bar
    for bar, at in _bars(score):
        for step in range(2 * size):
            score.add(band.hat(0.04), at + step / 2, 0.25 if step % 2 == 0 else 0.15)
        for beat in (0.0, 2.0, 2.5) if bar % 2 else (0.0, 1.5, 2.0):
            score.add(band.kick(), at + beat, 0.9)
        for beat in range(1, size, 2):
            score.add(band.snare(), at + beat, 0.7)
        if bar % 8 == 0:
            score.add(band.crash(), at, 0.4)
        if bar % 8 == 7:
            for step in range(4):
                score.add(band.snare(), at + size - 1 + step / 4, 0.5)
        if drums_alone:
            score.played = [(0.0, NO_CHORD)]
            continue
        for step in range(2 * size):
            score.play(band.bass, [score.root(bar)], at + step / 2, 0.48, 0.5)
            score.play(band.guitar, score.triad(bar, 57), at + step / 2, 0.5, 0.14)
    if not drums_alone:
        _tune(score, band.piano, 0.3)


def _funk(score: Score) -> None:
    bass = sorted(score.rng.choice(np.arange(1, 16), 5, replace=False) / 4)
    chops = sorted(score.rng.choice(np.arange(1, 16), 5, replace=False) / 4)
    for bar, at in _bars(score):
        for step in range(16):
            score.add(band.hat(0.03), at + step / 4, 0.22 if step % 4 == 0 else 0.12)
        for beat in (0.0, 0.75, 2.5):
            score.add(band.kick(), at + beat, 0.9)
        for beat in (1.0, 3.0, 3.75):
            score.add(band.snare(), at + beat, 0.7 if beat % 1 == 0 else 0.25)
        for beat in [0.0, *bass]:
            score.play(band.bass, [score.root(bar)], at + beat, 0.24, 0.6)
        for beat in chops:
            score.play(band.guitar, score.triad(bar), at + beat, 0.2, 0.2)
    _tune(score, band.piano, 0.2, 4)


def _reggae(score: Score) -> None:
    """One drop: nothing on the first beat, the guitar on every off-beat."""
    for bar, at in _bars(score):
        for beat in range(4):
            score.play(band.guitar, score.triad(bar, 62), at + beat + 0.5, 0.25, 0.35)
            score.add(band.hat(0.03), at + beat, 0.15)
            score.add(band.hat(0.06), at + beat + 0.5, 0.25)
        score.add(band.kick(), at + 2, 0.9)
        score.add(band.rim(), at + 2, 0.7)
        for start, step in ((0.5, 0), (1.0, 2), (1.5, 4), (2.5, 0), (3.0, 0)):
            score.play(band.bass, [score.pitch(score.chords[bar] + step, 40)], at + start, 0.45, 0.6)
    _tune(score, band.piano, 0.15)


def _ska(score: Score) -> None:
    for bar, at in _bars(score):
        for beat in range(4):
            score.play(band.guitar, score.triad(bar, 64), at + beat + 0.5, 0.2, 0.4)
            score.play(band.piano, score.triad(bar, 60), at + beat + 0.5, 0.2, 0.15)
            score.play(band.bass, [score.pitch(score.chords[bar] + (0, 2, 4, 2)[beat], 40)], at + beat, 0.9, 0.5)
            score.add(band.hat(0.05), at + beat + 0.5, 0.25)
        score.add(band.kick(), at, 0.6)
        score.add(band.snare(), at + 1, 0.5)
        score.add(band.snare(), at + 3, 0.5)
    _tune(score, band.piano, 0.15)


def _backbeat(score: Score) -> None:
    """Loud drums only on the second and fourth beat; chords before the beat."""
    for bar, at in _bars(score):
        if _end(score, bar, at):
            continue
        for beat in (1, 3):
            score.add(band.snare(), at + beat, 1.0)
        score.play(band.bass, [score.root(bar)], at, 1.4, 0.5)
        score.play(band.bass, [score.root(bar)], at + 2.5, 1.4, 0.5)
        for start in (0.0, 1.5, 2.5, 3.5):
            score.play(band.piano, score.triad(bar), at + start, 0.8, 0.2)
    _tune(score, band.guitar, 0.35)


def _swing(score: Score) -> None:
    walk = [score.rng.integers(0, 5, 4) for _ in range(4)]
    score.played = [(at, score.label(score.chords[bar], 4)) for bar, at in _bars(score)]
    for bar, at in _bars(score):
        for beat in range(4):
            score.add(band.hat(0.12), at + beat, 0.25)
            step = 0 if beat == 0 else int(walk[bar % 4][beat])
            score.play(band.bass, [score.pitch(score.chords[bar] + step, 40)], at + beat, 0.9, 0.55)
        for beat in (1, 3):
            score.add(band.hat(0.04), at + beat, 0.3)
            score.add(band.hat(0.1), at + beat + 2 / 3, 0.18)
        for beat in score.rng.choice((0.0, 2 / 3, 1 + 2 / 3, 2.0, 2 + 2 / 3, 3 + 2 / 3), 2, replace=False):
            score.play(band.piano, [*score.triad(bar), score.pitch(score.chords[bar] + 6, 60)], at + beat, 0.5, 0.15)
    _tune(score, band.guitar, 0.3, 3)


def _waltz(score: Score) -> None:
    for bar, at in _bars(score):
        if _end(score, bar, at):
            continue
        score.play(band.bass, [score.root(bar)], at, 0.95, 0.5)
        for beat in (1, 2):
            score.play(band.piano, score.triad(bar), at + beat, 0.7, 0.2)
            score.add(band.hat(0.04), at + beat, 0.12)
        score.add(band.kick(), at, 0.4)
    _tune(score, band.guitar, 0.35)


def _ballad(score: Score) -> None:
    """Broken chords of a piano."""
    size = score.recipe.beats_per_bar
    for bar, at in _bars(score):
        if _end(score, bar, at):
            continue
        tones = [*score.triad(bar), score.triad(bar)[0] + 12]
        score.play(band.piano, [score.root(bar)], at, size, 0.35)
        for step in range(2 * size):
            level = 0.3 if step % 2 == 0 else 0.2
            score.play(band.piano, [tones[(0, 1, 2, 3, 2, 1)[step % 6]]], at + step / 2, 1.2, level)
    _tune(score, band.strings, 0.2)


def _strings(score: Score) -> None:
    """Held chords and a slow tune."""
    size = score.recipe.beats_per_bar
    for bar, at in _bars(score):
        score.play(band.strings, [score.root(bar), *score.triad(bar), score.triad(bar)[1] + 12], at, size, 0.2)
    _tune(score, band.strings, 0.3, 1)


def _chorale(score: Score) -> None:
    """Four voices, a chord on each beat, usually changing from a light beat to a heavy one; phrases of two bars."""
    size, voice = score.recipe.beats_per_bar, (band.strings, band.piano, band.guitar)[score.recipe.seed % 3]
    upbeat, end = score.recipe.upbeat, 6 if size == 4 else 3
    degree = 0
    score.played = []
    for beat in range(-upbeat, len(score.times) - 1 - upbeat):
        place = (beat + upbeat) % (2 * size) - upbeat
        if place > end:
            continue
        heavy = place % size in ((0, 2) if size == 4 else (0,))
        if place >= end - 1:
            degree = 4 if place < end else (0, 0, 4, 5)[beat // (2 * size) % 4]
        elif heavy or score.rng.random() < 0.6:
            degree = int(score.rng.choice([other for other in range(6) if other != degree]))
        length = 2 * size - upbeat - end if place == end else 1
        inversion = 0 if place >= end - 1 else int(score.rng.choice((0, 0, 2)))
        tones = [score.pitch(degree + step, around) for step, around in ((inversion, 45), (4, 55), (2, 60), (0, 67))]
        score.played.append((beat, score.label(degree, 3, inversion)))
        passing = place < end and score.rng.random() < (0.25 if heavy else 0.4)
        score.play(voice, tones[:3], beat, 0.97 * length, 0.25)
        score.play(voice, tones[3:], beat, 0.48 if passing else 0.97 * length, 0.3)
        if passing:
            score.play(voice, [score.pitch(degree + 1, 67)], beat + 0.5, 0.48, 0.3)


def _polka(score: Score) -> None:
    for bar, at in _bars(score):
        for beat in range(2):
            score.play(band.bass, [score.pitch(score.chords[bar] + 4 * beat, 40)], at + beat, 0.5, 0.5)
            score.play(band.piano, score.triad(bar), at + beat + 0.5, 0.4, 0.2)
        score.add(band.kick(), at, 0.6)
        score.add(band.snare(), at + 1, 0.4)
    _tune(score, band.guitar, 0.3)


def _jig(score: Score) -> None:
    for bar, at in _bars(score):
        score.add(band.kick(), at, 0.8)
        score.add(band.snare(), at + 1, 0.5)
        for step in range(6):
            score.add(band.hat(0.04), at + step / 3, 0.22 if step % 3 == 0 else 0.14)
        for beat in range(2):
            score.play(band.bass, [score.pitch(score.chords[bar] + 4 * beat, 40)], at + beat, 0.6, 0.5)
            score.play(band.guitar, score.triad(bar), at + beat, 0.6, 0.18)
            score.play(band.guitar, score.triad(bar), at + beat + 2 / 3, 0.3, 0.12)
    _tune(score, band.piano, 0.3, 3)


def _lilt(score: Score) -> None:
    """Broken chords in six quavers, without drums."""
    for bar, at in _bars(score):
        if _end(score, bar, at):
            continue
        tones = [*score.triad(bar), score.triad(bar)[0] + 12]
        score.play(band.piano, [score.root(bar)], at, 2, 0.35)
        for step in range(6):
            score.play(
                band.guitar, [tones[(0, 1, 2, 3, 2, 1)[step]]], at + step / 3, 0.8, 0.35 if step % 3 == 0 else 0.25
            )
    _tune(score, band.strings, 0.2, 3)


def _shuffle(score: Score) -> None:
    for bar, at in _bars(score):
        for step in range(12):
            if step % 3 != 1 or score.recipe.bpm < 80:
                score.add(band.hat(0.04), at + step / 3, 0.22 if step % 3 == 0 else 0.14)
        for beat in range(4):
            score.add(band.kick() if beat % 2 == 0 else band.snare(), at + beat, 0.8)
            score.play(band.bass, [score.root(bar)], at + beat, 0.6, 0.5)
            score.play(band.bass, [score.pitch(score.chords[bar] + 4, 40)], at + beat + 2 / 3, 0.3, 0.4)
            score.play(band.piano, score.triad(bar), at + beat, 0.5, 0.15)
    _tune(score, band.guitar, 0.3, 3)


def _odd(score: Score) -> None:
    """Bars of 3 + 2 or 2 + 2 + 3."""
    size = score.recipe.beats_per_bar
    groups = (0, 3) if size == 5 else (0, 2, 4)
    for bar, at in _bars(score):
        for beat in range(size):
            score.add(band.hat(0.04), at + beat, 0.2)
            if beat in groups:
                score.add(band.kick() if beat == 0 else band.snare(), at + beat, 0.8)
                score.play(band.bass, [score.root(bar)], at + beat, 1.4, 0.5)
            score.play(band.piano, score.triad(bar), at + beat, 0.6, 0.2 if beat in groups else 0.12)
    _tune(score, band.guitar, 0.3, 1 if size == 7 else 2)


STYLES: dict[str, Callable[[Score], None]] = {
    "rock": _rock,
    "drums": partial(_rock, drums_alone=True),
    "funk": _funk,
    "reggae": _reggae,
    "ska": _ska,
    "backbeat": _backbeat,
    "swing": _swing,
    "waltz": _waltz,
    "ballad": _ballad,
    "strings": _strings,
    "chorale": _chorale,
    "polka": _polka,
    "jig": _jig,
    "lilt": _lilt,
    "shuffle": _shuffle,
    "odd": _odd,
}
