"""Songs made from chords and scales, so that their keys are known exactly, for tests.

Each kind of song is a case in which keys are easily confused: modes, a relative major in the chorus, chords borrowed
from other keys, changes of key. Chords are written as Roman numerals over the tonic; the instruments are those of the
demo song.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from services.common.samples import Audio
from songs import band
from songs.harmony import MAJOR_SCALES, SCALES

RATE_HZ = 44_100
DEGREES = {"i": 0, "ii": 2, "iii": 4, "iv": 5, "v": 7, "vi": 9, "vii": 11}
QUALITIES = {"7": (0, 4, 7, 10), "maj7": (0, 4, 7, 11), "o": (0, 3, 6), "ø7": (0, 3, 6, 10), "sus4": (0, 5, 7)}
NUMERAL = re.compile(r"([b#]?)([iv]+|[IV]+)(.*)")


@dataclass(frozen=True, slots=True)
class Passage:
    """Chords of one bar each, played `times` times; the tonic is `up` semitones above the song's, `mode` is a scale."""

    chords: str
    mode: str
    times: int = 2
    up: int = 0


@dataclass(frozen=True, slots=True)
class KeySong:
    """A song and its keys: `regions` are (start in seconds, pitch class of the tonic, "major" or "minor").

    The song's key is that of the first region: every song begins in it and, except for a last change in pop songs, ends
    in it. `chords` are (start, end, pitch class of the root, semitones of the tones above it); `texture` names the
    instruments.
    """

    kind: str
    audio: Audio
    regions: tuple[tuple[float, int, str], ...]
    chords: tuple[tuple[float, float, int, tuple[int, ...]], ...]
    texture: str


Form = tuple[Passage, ...]


def _repeated(mode: str, *verses_and_chorus: tuple[str, str]) -> tuple[Form, ...]:
    return tuple(
        (Passage(verse, mode), Passage(chorus, mode), Passage(verse, mode, 1), Passage(chorus, mode))
        for verse, chorus in verses_and_chorus
    )


def _lifted(up: int) -> tuple[Form, ...]:
    major = (("I V vi IV", "IV I V vi"), ("I vi ii V7", "I IV V I"))
    minor = (("i bVI bIII bVII", "i iv V i"),)
    return tuple(
        (Passage(verse, mode), Passage(chorus, mode), Passage(verse, mode), Passage(chorus, mode, 2, up))
        for mode, songs in (("ionian", major), ("aeolian", minor))
        for verse, chorus in songs
    )


KINDS: dict[str, tuple[Form, ...]] = {
    "major": _repeated(
        "ionian",
        ("I V vi IV", "IV V I I"),
        ("I vi IV V", "IV I V I"),
        ("I IV I V", "vi IV I V"),
        ("I iii IV V", "vi IV I V"),
    ),
    "major, begun off the tonic": _repeated(
        "ionian",
        ("IV I V vi", "IV V I I"),
        ("V IV I I", "IV I V I"),
        ("ii V I vi", "IV V iii vi"),
        ("vi IV I V", "I V vi IV"),
    ),
    "minor, begun off the tonic": _repeated(
        "aeolian", ("bVI bVII i i", "iv bVI i bVII"), ("iv V7 i i", "bVI bIII bVII i")
    ),
    "minor, natural": _repeated(
        "aeolian",
        ("i bVI bIII bVII", "i bVII bVI bVII"),
        ("i iv v i", "i bVI bVII i"),
        ("i bVII bVI iv", "i v bVI bVII"),
    ),
    "minor, leading tone": _repeated(
        "aeolian", ("i iv V7 i", "bVI iv V7 i"), ("i bVII bVI V7", "i iv i V7"), ("i iiø7 V7 i", "iv i V7 i")
    ),
    "mixolydian": _repeated("mixolydian", ("I bVII IV I", "bVII IV I I"), ("I bVII I v", "IV bVII I I")),
    "dorian": _repeated("dorian", ("i IV i IV", "bIII IV i i"), ("i7 IV7 i7 IV7", "i bVII IV i")),
    "phrygian and lydian": (
        *_repeated("phrygian", ("i bII i bvii", "bVI bII i i")),
        *_repeated("lydian", ("I II I II", "I II vii I")),
    ),
    "blues": _repeated("mixolydian", ("I7 I7 I7 I7 IV7 IV7 I7 I7 V7 IV7 I7 V7", "I7 IV7 I7 I7")),
    "jazz": _repeated(
        "ionian",
        ("iimin7 V7 Imaj7 VI7", "IVmaj7 ivmin7 iiimin7 VI7"),
        ("Imaj7 vimin7 iimin7 V7", "iiimin7 VI7 iimin7 V7"),
    ),
    "applied dominants": _repeated(
        "ionian", ("I III7 vi II7", "V7 I IV V7"), ("I I7 IV iv", "I II7 V7 I")
    ),
    "minor, relative major chorus": tuple(
        (
            Passage(verse, "aeolian"),
            Passage(chorus, "aeolian"),
            Passage(verse, "aeolian"),
            Passage(chorus, "aeolian"),
            Passage("i iv V7 i", "aeolian", 1),
        )
        for verse, chorus in (
            ("i iv i V7", "bIII bVII bVI bVII"),
            ("i bVI iv V7", "bIII bVII iv bVI"),
            ("i bVII bVI bVII", "bIII bVII i bVI"),
        )
    ),
    "last chorus up a semitone": _lifted(1),
    "last chorus up a tone": _lifted(2),
    "bridge in another key": tuple(
        (
            Passage("I IV V7 I", "ionian", 3),
            Passage("I IV V7 I", "ionian", 2, up),
            Passage("I V7 vi IV V7 I", "ionian", 2),
        )
        for up in (7, 5, 3, 8)
    ),
    "minor, middle in another key": tuple(
        (Passage("i iv V7 i", "aeolian", 3), Passage(chords, mode, 2, up), Passage("i bVI V7 i", "aeolian", 2))
        for up, mode, chords in ((5, "aeolian", "i iv V7 i"), (7, "aeolian", "i iv V7 i"), (3, "ionian", "I IV V7 I"))
    ),
    "chorale": (
        (Passage("I V I IV I ii V I I V vi ii V I I IV I V I II V V I IV V7 I", "ionian", 2),),
        (Passage("i V i iv i iiø7 V i bIII bVII bIII iv V i i iv i V i iv iiø7 V7 i V7 i I", "aeolian", 2),),
        (
            Passage("I V I IV V7 I", "ionian", 2),
            Passage("I V7 I ii V7 I", "ionian", 1, 7),
            Passage("i V7 i iv V7 i", "aeolian", 1, 9),
            Passage("I IV ii V7 I I", "ionian", 2),
        ),
        (
            Passage("i V i iv V7 i", "aeolian", 2),
            Passage("I V7 I ii V7 I", "ionian", 1, 3),
            Passage("i V7 i iv V7 i", "aeolian", 1, 7),
            Passage("i iv iiø7 V7 i I", "aeolian", 2),
        ),
    ),
}  # fmt: skip


def chord(numeral: str) -> tuple[int, tuple[int, ...]]:
    """Semitones of the root above the tonic, and of the tones above the root, of a Roman numeral.

    Upper case is major, lower case is minor. `b` and `#` alter the degree of the major scale. A suffix in `QUALITIES`
    replaces the triad; `7` after a lower-case letter, or `min7`, is the minor seventh chord.
    """
    match = NUMERAL.fullmatch(numeral)
    if not match:
        raise ValueError(f"not a Roman numeral: {numeral!r}")
    accidental, degree, quality = match.groups()
    root = (DEGREES[degree.lower()] + {"b": -1, "": 0, "#": 1}[accidental]) % 12
    if quality == "min7" or (quality == "7" and degree.islower()):
        return root, (0, 3, 7, 10)
    return root, QUALITIES.get(quality, (0, 3, 7) if degree.islower() else (0, 4, 7))


def key_songs(seed: int = 0, per_form: int = 1) -> Iterator[KeySong]:
    """Every form of every kind, `per_form` times, each with a random tonic, tempo, tuning and instruments."""
    rng = np.random.default_rng(seed)
    for kind, forms in KINDS.items():
        for form in forms:
            for _ in range(per_form):
                yield play(kind, form, int(rng.integers(12)), rng)


def play(kind: str, form: Form, tonic: int, rng: np.random.Generator) -> KeySong:
    """Plays a song: chords, bass, melody, and for most of them drums; up to 30 cents out of tune."""
    slow = kind == "chorale"
    bar = float(rng.uniform(0.9, 1.3) if slow else rng.uniform(1.5, 2.4))
    texture = "choir" if slow else str(rng.choice(["band", "guitar", "sustained strings"]))
    bars = [(passage, numeral) for passage in form for _ in range(passage.times) for numeral in passage.chords.split()]
    mix = np.zeros(round((bar * len(bars) + 2.0) * RATE_HZ))
    regions: list[tuple[float, int, str]] = []
    chords = []
    for number, (passage, numeral) in enumerate(bars):
        at = 0.3 + number * bar
        here = (tonic + passage.up) % 12
        mode = "major" if passage.mode in MAJOR_SCALES else "minor"
        if not regions or regions[-1][1:] != (here, mode):
            regions.append((at if regions else 0.0, here, mode))
        root, tones = chord(numeral)
        chords.append((at, 0.3 + (number + 1) * bar, (here + root) % 12, tones))
        pitches = [(here + root + tone) % 12 for tone in tones]
        _harmony(mix, texture, pitches, at, bar, rng)
        _melody(mix, texture, pitches, [(here + step) % 12 for step in SCALES[passage.mode]], at, bar, rng)
        if texture == "band":
            _drums(mix, at, bar)
    rate = round(RATE_HZ * 2 ** (float(rng.uniform(-30, 30)) / 1200))
    sound = (0.7 * mix / np.abs(mix).max()).astype(np.float32)
    # The tuning is changed by resampling, so times are scaled too.
    scale = RATE_HZ / rate
    return KeySong(
        kind,
        Audio(sound[None], rate),
        tuple((start * scale, tonic, mode) for start, tonic, mode in regions),
        tuple((start * scale, end * scale, root, tones) for start, end, root, tones in chords),
        texture,
    )


def _add(mix: band.Signal, sound: band.Signal, at: float, level: float) -> None:
    start = round(at * RATE_HZ)
    end = min(mix.size, start + sound.size)
    mix[start:end] += level * sound[: end - start]


def _harmony(
    mix: band.Signal, texture: str, pitches: list[int], at: float, bar: float, rng: np.random.Generator
) -> None:
    tones = sorted(52 + (pitch - 52) % 12 for pitch in pitches)
    low = 36 + pitches[0] if pitches[0] < 6 else 24 + pitches[0]
    if texture in ("choir", "sustained strings"):
        for tone in (low + 12, *tones, tones[0] + 12):
            _add(mix, band.strings(tone, round(bar, 3)), at, 0.2)
        return
    for beat in range(4):
        _add(mix, band.bass(low, round(bar / 4, 3)), at + beat * bar / 4, 0.5)
        if texture == "band":
            for tone in tones:
                _add(mix, band.piano(tone, round(bar / 4, 3)), at + beat * bar / 4, 0.2)
        else:
            for eighth in range(2):
                tone = tones[(2 * beat + eighth) % len(tones)]
                _add(mix, band.guitar(tone, round(bar / 2, 3)), at + (2 * beat + eighth) * bar / 8, 0.4)


def _melody(
    mix: band.Signal,
    texture: str,
    pitches: list[int],
    scale: list[int],
    at: float,
    bar: float,
    rng: np.random.Generator,
) -> None:
    """Plays tones of the chord on strong beats, of chord or scale on weak ones, and some rests."""
    voice = band.strings if texture == "choir" else band.guitar if texture == "band" else band.piano
    notes = 2 if texture == "choir" else 4
    # Notes of the scale that the chord alters are left out: they would be wrong notes.
    free = [step for step in scale if all((step - pitch) % 12 not in (1, 11) for pitch in pitches)] or pitches
    for beat in range(notes):
        if rng.random() < 0.2:
            continue
        pitch = int(rng.choice(pitches if beat % 2 == 0 else free))
        _add(mix, voice(64 + (pitch - 64) % 12, round(bar / notes, 3)), at + beat * bar / notes, 0.35)


def _drums(mix: band.Signal, at: float, bar: float) -> None:
    for eighth in range(8):
        _add(mix, band.hat(), at + eighth * bar / 8, 0.15)
    for beat in (0, 2):
        _add(mix, band.kick(), at + beat * bar / 4, 0.8)
        _add(mix, band.snare(), at + (beat + 1) * bar / 4, 0.5)
