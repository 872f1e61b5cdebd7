"""The project's own song, about which everything is known exactly.

About 79 seconds of pop in G major at 112 BPM: intro, verse, chorus, verse, chorus, outro, with drums, bass, electric
piano, guitar, strings and English singing (`songs.voice`). Every call gives the same arrays. The sum of the stems is
the mix, and `Truth` has the results that an analysis of the mix should find. Words and music are part of StemTube.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from songs import band
from songs.voice import Note, sing

SAMPLE_RATE_HZ = 44_100
TEMPO_BPM = 112.0
BEATS_PER_BAR = 4
STEMS = ("drums", "bass", "other", "vocals")
_BEAT = 60.0 / TEMPO_BPM
_BAR = BEATS_PER_BAR * _BEAT
_LEAD_IN = 0.25
_TAIL = 1.5
_PEAK = 10.0 ** (-1.0 / 20.0)

Stereo = npt.NDArray[np.float32]
Signal = npt.NDArray[np.float64]

# Tones of each chord as MIDI pitches in close position around middle C; the bass plays the root below.
_CHORDS = {
    "G:maj": (55, 59, 62),
    "C:maj": (55, 60, 64),
    "D:maj": (57, 62, 66),
    "E:min": (55, 59, 64),
    "A:min": (57, 60, 64),
}
_ROOTS = {"G:maj": 43, "C:maj": 36, "D:maj": 38, "E:min": 40, "A:min": 45}
_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "F#": 6, "G": 7, "A": 9, "B": 11}

# The words of the song, in the phonemes of `songs.voice`, one string per syllable.
_LEXICON = {
    "all": ("AO L",),
    "alone": ("AH", "L OW N"),
    "am": ("AE M",),
    "and": ("AE N D",),
    "are": ("AA R",),
    "be": ("B IY",),
    "birds": ("B ER D Z",),
    "by": ("B AY",),
    "carry": ("K EH", "R IY"),
    "come": ("K AH M",),
    "coming": ("K AH", "M IH NG"),
    "evening": ("IY V", "N IH NG"),
    "falls": ("F AO L Z",),
    "for": ("F AO R",),
    "happy": ("HH AE", "P IY"),
    "home": ("HH OW M",),
    "i": ("AY",),
    "is": ("IH Z",),
    "light": ("L AY T",),
    "me": ("M IY",),
    "morning": ("M AO R", "N IH NG"),
    "mountain": ("M AW N", "T AH N"),
    "of": ("AH V",),
    "on": ("AA N",),
    "over": ("OW", "V ER"),
    "river": ("R IH", "V ER"),
    "road": ("R OW D",),
    "sea": ("S IY",),
    "sing": ("S IH NG",),
    "singing": ("S IH NG", "IH NG"),
    "summer": ("S AH", "M ER"),
    "the": ("DH AH",),
    "upon": ("AH", "P AA N"),
    "waiting": ("W EY", "T IH NG"),
    "walking": ("W AO", "K IH NG"),
    "water": ("W AO", "T ER"),
    "wind": ("W IH N D",),
    "with": ("W IH DH",),
    "you": ("Y UW",),
}


@dataclass(frozen=True, slots=True)
class SungLine:
    """Two bars of singing: `text`, and a note ("B3:0.5": pitch and beats) for each of its syllables."""

    text: str
    notes: str


@dataclass(frozen=True, slots=True)
class Passage:
    """A section of the song: one chord per bar, and one sung line per two bars or none."""

    label: str
    chords: tuple[str, ...]
    lines: tuple[SungLine, ...] = ()


_MORNING = SungLine("Morning light is on the water", "B3:1 A3:.5 G3:1 G3:.5 A3:.5 B3:.5 G3:1 E3:1.5")
_WAITING = SungLine("I am waiting by the road", "G3:.5 G3:.5 A3:1 G3:1 E3:.5 G3:.5 B3:2.5")
_BIRDS = SungLine("All the birds are singing for you", "B3:.5 A3:.5 B3:1 A3:.5 G3:1 G3:.5 G3:.5 B3:2")
_WIND = SungLine("And the wind is coming home", "A3:.5 A3:.5 C4:1 B3:.5 A3:1 G3:.5 A3:2.5")
_EVENING = SungLine("Evening falls upon the river", "B3:1 A3:.5 G3:1 G3:.5 A3:.5 B3:.5 G3:1 E3:1.5")
_WALKING = SungLine("I am walking all alone", "G3:.5 G3:.5 A3:1 G3:1 E3:.5 G3:.5 B3:2.5")
_MOUNTAIN = SungLine("Carry me over the mountain", "C4:1 C4:.5 B3:.5 C4:1 D4:.5 C4:.5 D4:1 B3:1.5")
_SEA = SungLine("Carry me over the sea", "D4:1 A3:.5 B3:.5 D4:1 D4:.5 C4:.5 B3:2.5")
_SUMMER = SungLine("Sing with me all of the summer", "C4:1 C4:.5 B3:.5 C4:1 D4:.5 C4:.5 D4:1 B3:1.5")
_HAPPY = SungLine("Come and be happy with me", "A3:1 B3:.5 A3:.5 D4:1 C4:.5 A3:.5 G3:3")

_VERSE_CHORDS = ("G:maj", "E:min", "G:maj", "E:min", "G:maj", "E:min", "A:min", "D:maj")
_CHORUS_CHORDS = ("C:maj", "G:maj", "D:maj", "E:min", "C:maj", "G:maj", "D:maj", "G:maj")
_CHORUS = Passage("chorus", _CHORUS_CHORDS, (_MOUNTAIN, _SEA, _SUMMER, _HAPPY))

FULL_FORM: tuple[Passage, ...] = (
    Passage("intro", ("G:maj",) * 4),
    Passage("verse", _VERSE_CHORDS, (_MORNING, _WAITING, _BIRDS, _WIND)),
    _CHORUS,
    Passage("verse", _VERSE_CHORDS[:4], (_EVENING, _WALKING)),
    _CHORUS,
    Passage("outro", ("G:maj", "C:maj", "D:maj", "G:maj")),
)
SHORT_FORM: tuple[Passage, ...] = (
    Passage("verse", _VERSE_CHORDS[4:], (_MORNING, _WIND)),
    Passage("chorus", _CHORUS_CHORDS[:2] + _CHORUS_CHORDS[-2:], (_MOUNTAIN, _HAPPY)),
    Passage("outro", ("C:maj", "G:maj")),
)


@dataclass(frozen=True, slots=True)
class Truth:
    """The true results for the song; times in seconds, chords in Harte syntax. Chords and sections cover the song.

    `beats` are (time, position in bar), `chords` and `sections` (start, end, label), `words` (start, end, word), `key`
    (tonic, mode); `lyrics` has one sung line per line.
    """

    tempo_bpm: float
    beats: tuple[tuple[float, int], ...]
    key: tuple[str, str]
    chords: tuple[tuple[float, float, str], ...]
    sections: tuple[tuple[float, float, str], ...]
    words: tuple[tuple[float, float, str], ...]
    lyrics: str


@dataclass(frozen=True, slots=True)
class DemoSong:
    """The song: `mix` and each of `stems` are float32 [2, samples] at 44.1 kHz; the stems, in order, sum to the mix."""

    mix: Stereo
    stems: dict[str, Stereo]
    truth: Truth

    @property
    def duration(self) -> float:
        """Seconds."""
        return float(self.mix.shape[1]) / SAMPLE_RATE_HZ


def demo_song(form: Sequence[Passage] = FULL_FORM) -> DemoSong:
    """Renders the song with the passages of `form` (`FULL_FORM` 79 s, `SHORT_FORM` 23 s); its peak is -1 dBFS."""
    bars = sum(len(passage.chords) for passage in form)
    duration = _LEAD_IN + bars * _BAR + _TAIL
    tracks = {name: _Track(duration) for name in STEMS}
    start = _LEAD_IN
    for passage in form:
        _play_drums(tracks["drums"], passage, start)
        _play_bass(tracks["bass"], passage, start, last=passage is form[-1])
        _play_harmony(tracks["other"], passage, start, last=passage is form[-1])
        start += len(passage.chords) * _BAR
    words = _sing_all(tracks["vocals"], form, duration)
    stems = {
        "drums": band.room(tracks["drums"].sound, 0.08, 0.35, seed=20),
        "bass": tracks["bass"].sound,
        "other": band.room(tracks["other"].sound, 0.15, 0.8, seed=22),
        "vocals": band.room(tracks["vocals"].sound, 0.12, 0.9, seed=24),
    }
    mix, parts = _master(stems)
    return DemoSong(mix, parts, _truth(form, duration, words))


def short_song() -> DemoSong:
    """The 23 s version: four bars of verse, four of chorus and a close of two."""
    return demo_song(SHORT_FORM)


class _Track:
    """A stereo track to which sounds are added."""

    def __init__(self, seconds: float) -> None:
        self.sound: Signal = np.zeros((2, round(seconds * SAMPLE_RATE_HZ)))

    def add(self, sound: Signal, time: float, level: float = 1.0, pan: float = 0.0) -> None:
        """Adds `sound` at `time`; `pan` from -1 (left) to 1 (right), constant power."""
        at = round(time * SAMPLE_RATE_HZ)
        end = min(self.sound.shape[1], at + len(sound))
        angle = (pan + 1.0) * np.pi / 4.0
        gains = level * np.sqrt(2.0) * np.array([[np.cos(angle)], [np.sin(angle)]])
        self.sound[:, at:end] += gains * sound[: end - at]


def _play_drums(track: _Track, passage: Passage, start: float) -> None:
    bars = len(passage.chords)
    for bar in range(bars):
        at = start + bar * _BAR
        last = bar == bars - 1
        if passage.label == "chorus":
            if bar % 4 == 0:
                track.add(band.crash(), at, 0.42, 0.3)
            for beat in (0.0, 1.5, 2.0, 3.5):
                track.add(band.kick(), at + beat * _BEAT, 1.0)
            for beat in (1.0, 3.0):
                track.add(band.snare(), at + beat * _BEAT, 0.85)
            for eighth in range(8):
                track.add(band.hat(0.12), at + eighth * _BEAT / 2, 0.36 if eighth % 2 else 0.28, 0.35)
        elif passage.label == "verse":
            for beat in (0.0, 2.0):
                track.add(band.kick(), at + beat * _BEAT, 0.85)
            for beat in (1.0, 3.0):
                track.add(band.rim(), at + beat * _BEAT, 0.55, -0.15)
            for eighth in range(8):
                track.add(band.hat(0.03), at + eighth * _BEAT / 2, 0.08 if eighth % 2 else 0.14, 0.35)
        else:
            for beat in range(BEATS_PER_BAR):
                track.add(band.hat(0.04), at + beat * _BEAT, 0.10 if beat else 0.16, 0.35)
            track.add(band.kick(), at, 0.6)
        if last and passage.label in ("intro", "verse"):
            for step, level in zip((2.5, 3.0, 3.25, 3.5, 3.75), (0.4, 0.5, 0.45, 0.6, 0.7), strict=True):
                track.add(band.snare(), at + step * _BEAT, level)


def _play_bass(track: _Track, passage: Passage, start: float, last: bool) -> None:
    for bar, chord in enumerate(passage.chords):
        at, root = start + bar * _BAR, _ROOTS[chord]
        if last and bar == len(passage.chords) - 1:
            track.add(band.bass(root, _BAR + _TAIL - 0.1), at, 0.5)
        elif passage.label == "chorus":
            for eighth in range(8):
                track.add(band.bass(root, _BEAT / 2), at + eighth * _BEAT / 2, 0.62 if eighth % 2 == 0 else 0.5)
        elif passage.label == "verse":
            for beat, length in ((0.0, 1.5), (1.5, 0.5), (2.0, 2.0)):
                track.add(band.bass(root, length * _BEAT), at + beat * _BEAT, 0.52)
        else:
            track.add(band.bass(root, _BAR), at, 0.4)


def _play_harmony(track: _Track, passage: Passage, start: float, last: bool) -> None:
    for bar, chord in enumerate(passage.chords):
        at, tones = start + bar * _BAR, _CHORDS[chord]
        if last and bar == len(passage.chords) - 1:
            for index, tone in enumerate((tones[0] - 12, *tones)):
                track.add(band.piano(tone, _BAR + _TAIL - 0.1), at + 0.02 * index, 0.3)
            continue
        if passage.label in ("intro", "outro"):
            for eighth, index in enumerate((0, 1, 2, 1, 3, 1, 2, 1)):
                tone = (*tones, tones[0] + 12)[index]
                track.add(band.guitar(tone, 1.2), at + eighth * _BEAT / 2, 0.42, -0.25)
            continue
        if passage.label == "verse":
            for beat, length in ((0.0, 1.5), (1.5, 0.5), (2.0, 2.0)):
                for tone in tones:
                    track.add(band.piano(tone, length * _BEAT), at + beat * _BEAT, 0.24, 0.25)
            continue
        for tone in tones:
            track.add(band.strings(tone + 12, _BAR), at, 0.09, 0.1)
            for beat in range(BEATS_PER_BAR):
                track.add(band.piano(tone, _BEAT), at + beat * _BEAT, 0.20, 0.25)
        for eighth in range(8):
            strum = tones if eighth % 2 == 0 else tones[::-1]
            for index, tone in enumerate(strum):
                track.add(band.guitar(tone, 0.5), at + eighth * _BEAT / 2 + 0.008 * index, 0.16, -0.45)


def _notes_of(line: SungLine, start: float, level: float) -> list[tuple[str, list[Note]]]:
    """The words of a line, each with the notes of its syllables."""
    marks = iter(line.notes.split())
    time = start
    words = []
    for word in line.text.split():
        notes = []
        for phones in _LEXICON[word.lower()]:
            name, beats = next(marks).split(":")
            end = time + float(beats) * _BEAT
            pitch = 12 * (int(name[-1]) + 1) + _STEPS[name[:-1]]
            notes.append(Note(time, end - 0.03, pitch, tuple(phones.split()), level))
            time = end
        words.append((word, notes))
    return words


def _sing_all(track: _Track, form: Sequence[Passage], duration: float) -> tuple[tuple[float, float, str], ...]:
    """Sings every line, with doubled choruses left and right; returns the (start, end, word) of each word."""
    lead: list[tuple[str, list[Note]]] = []
    doubled: list[Note] = []
    start = _LEAD_IN
    for passage in form:
        level = 1.0 if passage.label == "chorus" else 0.85
        for index, line in enumerate(passage.lines):
            words = _notes_of(line, start + 2 * index * _BAR, level)
            lead += words
            if passage.label == "chorus":
                doubled += [note for _, notes in words for note in notes]
        start += len(passage.chords) * _BAR
    sung = sing([note for _, notes in lead for note in notes], duration, np.random.default_rng(1))
    track.add(sung.voice, 0.0, 0.22)
    second = sing(doubled, duration, np.random.default_rng(2)).voice
    for delay, pan in ((0.021, -0.7), (0.014, 0.7)):
        track.add(second, delay, 0.03, pan)
    spans = iter(sung.syllables)
    timed = []
    for word, notes in lead:
        own = [next(spans) for _ in notes]
        timed.append((own[0][0], own[-1][1], word.lower()))
    return tuple(timed)


def _master(stems: dict[str, Signal]) -> tuple[Stereo, dict[str, Stereo]]:
    """Applies one gain to all stems, which sets the peak of the mix, and sums the stems in their order."""
    gain = _PEAK / np.abs(sum(stems.values())).max()
    parts = {name: (gain * sound).astype(np.float32) for name, sound in stems.items()}
    mix = np.zeros_like(parts[STEMS[0]])
    for part in parts.values():
        mix += part
    return mix, parts


def _truth(form: Sequence[Passage], duration: float, words: tuple[tuple[float, float, str], ...]) -> Truth:
    bars = sum(len(passage.chords) for passage in form)
    beats = tuple((_LEAD_IN + index * _BEAT, index % BEATS_PER_BAR + 1) for index in range(BEATS_PER_BAR * bars))
    chords: list[tuple[float, float, str]] = [(0.0, _LEAD_IN, "N")]
    sections: list[tuple[float, float, str]] = []
    time = _LEAD_IN
    for passage in form:
        start = time if sections else 0.0
        for chord in passage.chords:
            if chords[-1][2] == chord:
                chords[-1] = (chords[-1][0], time + _BAR, chord)
            else:
                chords.append((time, time + _BAR, chord))
            time += _BAR
        sections.append((start, time, passage.label))
    chords[-1] = (chords[-1][0], duration, chords[-1][2])
    sections[-1] = (sections[-1][0], duration, sections[-1][2])
    lyrics = "\n".join(line.text for passage in form for line in passage.lines)
    return Truth(TEMPO_BPM, beats, ("G", "major"), tuple(chords), tuple(sections), words, lyrics)
