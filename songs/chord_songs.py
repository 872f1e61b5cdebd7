"""Songs with exactly known chords, for cases that are rare among the reference songs.

They are the songs of `songs.key_songs` (some change key) and further kinds: single triads with pauses,
inversions, sevenths, rare qualities, and the same held by strings. A chord's name follows from its notes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from services.common.samples import Audio
from songs import band, key_songs
from songs.chord_names import NO_CHORD, QUALITIES, harte

RATE_HZ = band.SAMPLE_RATE_HZ
TONES = {name: tones for tones, name in QUALITIES.items()}
VOICES = (band.piano, band.guitar, band.strings)
CHORDS_PER_SONG = 14

TimedChord = tuple[float, float, str]


@dataclass(frozen=True, slots=True)
class ChordSong:
    """A song; its chords are (start, end, label in Harte syntax), seconds."""

    kind: str
    audio: Audio
    chords: tuple[TimedChord, ...]


def chord_songs(seed: int = 0, per_kind: int = 4) -> Iterator[ChordSong]:
    """The kinds of this module, `per_kind` songs each, then every form of `songs.key_songs`."""
    rng = np.random.default_rng(seed)
    for kind, choose in KINDS.items():
        for number in range(per_kind):
            yield _play(kind, choose(rng), VOICES[number % len(VOICES)], rng)
    for song in key_songs.key_songs(seed):
        chords = tuple((start, end, harte(root, tones)) for start, end, root, tones in song.chords)
        yield ChordSong(f"{song.texture}, key song", song.audio, chords)


Choice = tuple[int, str, int]  # root, quality, bass above the root


def _any(*qualities: str) -> Callable[[np.random.Generator], list[Choice]]:
    """Chooses chords on any root; neighbours have different roots."""

    def choose(rng: np.random.Generator) -> list[Choice]:
        roots = np.cumsum(rng.integers(1, 12, CHORDS_PER_SONG)) % 12
        return [(int(root), str(rng.choice(qualities)), 0) for root in roots]

    return choose


def _in_key(sevenths: bool, inverted: bool) -> Callable[[np.random.Generator], list[Choice]]:
    """Chooses chords of one major key; neighbours are on different degrees."""

    def choose(rng: np.random.Generator) -> list[Choice]:
        tonic = int(rng.integers(12))
        steps = np.array(key_songs.SCALES["ionian"])
        degrees = np.cumsum(rng.integers(1, 6, CHORDS_PER_SONG)) % 6
        chosen = []
        for degree in degrees:
            tones = tuple((steps[(degree + 2 * i) % 7] - steps[degree]) % 12 for i in range(3 + sevenths))
            bass = int(rng.choice(tones[:3])) if inverted else 0
            chosen.append((int(tonic + steps[degree]) % 12, QUALITIES[tuple(int(tone) for tone in tones)], bass))
        return chosen

    return choose


KINDS: dict[str, Callable[[np.random.Generator], list[Choice]]] = {
    "single triads": _any("maj", "min"),
    "inversions": _in_key(False, True),
    "sevenths": _in_key(True, False),
    "sevenths on any root": _any("7", "maj7", "min7", "maj", "min"),
    "rare qualities": _any("dim", "aug", "sus4", "sus2", "hdim7", "dim7", "maj", "min"),
    "held triads": _in_key(False, False),
    "held sevenths": _in_key(True, True),
}


def _play(
    kind: str, chosen: list[Choice], voice: Callable[[int, float], band.Signal], rng: np.random.Generator
) -> ChordSong:
    """Plays each chord for 1 to 2.5 s: struck one to four times, or held; single triads have pauses."""
    held, single = kind.startswith("held"), kind.startswith("single")
    seconds = float(rng.uniform(1.0, 2.5))
    mix = np.zeros(round((0.5 + (len(chosen) + 1) * seconds) * RATE_HZ))
    strokes = 1 if held or single else int(rng.choice((1, 2, 4)))
    chords: list[TimedChord] = [(0.0, 0.5, NO_CHORD)]
    for number, (root, quality, bass) in enumerate(chosen):
        at = 0.5 + number * seconds
        around = int(rng.integers(50, 62))
        pitches = [around + (root + tone - around) % 12 for tone in TONES[quality]]
        low = 38 + (root + bass - 38) % 12
        length = seconds * (0.75 if single else 1.0) / strokes
        for stroke in range(strokes):
            for pitch in pitches if single else (low, *pitches):
                sound = (band.strings if held else voice)(pitch, round(length, 3))
                start = round((at + stroke * length) * RATE_HZ)
                mix[start : start + sound.size] += 0.25 * sound[: mix.size - start]
        following = 0.5 + (number + 1) * seconds
        end = at + 0.75 * seconds if single else following
        chords.append((at, end, harte(root, TONES[quality], bass)))
        if single:
            chords.append((end, following, NO_CHORD))
    rate = round(RATE_HZ * 2 ** (float(rng.uniform(-30, 30)) / 1200))
    sound = (0.7 * mix / np.abs(mix).max()).astype(np.float32)
    scale = RATE_HZ / rate
    return ChordSong(
        kind, Audio(sound[None], rate), tuple((start * scale, end * scale, label) for start, end, label in chords)
    )
