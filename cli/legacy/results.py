"""Converts results of the old StemTube to messages of the contracts. Times and durations are in seconds.

Every function takes the value of a column (parsed JSON). It returns None if the column is empty, and raises ValueError
with a reason for people if the value is not valid.
"""

import math
import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from services.common.harte import is_chord_label
from services.common.limits import MAX_LINE_TEXT, MAX_SECTION_LABEL
from stemtube.analysis.v1 import music_pb2 as music

MAX_BPM = 1000.0
# Starts that differ by less count as equal.
SAME_SECONDS = 0.01
_KEY = re.compile(r"([A-Ga-g])([#b♯♭]?)[\s:_-]*(major|minor|maj|min|m)?", re.IGNORECASE)
_ROOT = re.compile(r"([A-G])([#b♯♭]?)(.*)")
_BASS = re.compile(r"([A-G])([#b♯♭]?)")
_SIGNS = str.maketrans("♯♭", "#b")
_PITCHES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_MAJOR_SCALE = (0, 2, 4, 5, 7, 9, 11)
_LETTERS = "CDEFGAB"
_NO_CHORD = ("N", "N.C.", "NC", "none", "None", "")
# Qualities as written by musicians and by programs such as Chordino.
_QUALITIES = {
    name: harte
    for harte, names in {
        "maj": ("", "maj", "M", "major"),
        "min": ("m", "min", "-", "minor"),
        "5": ("5",),
        "maj6": ("6", "maj6"),
        "min6": ("m6", "min6"),
        "7": ("7",),
        "maj7": ("maj7", "M7", "Δ", "Δ7"),
        "min7": ("m7", "min7", "-7"),
        "minmaj7": ("mM7", "mMaj7", "mmaj7", "minmaj7", "m(maj7)"),
        "dim": ("dim", "°", "o"),
        "dim7": ("dim7", "°7", "o7"),
        "hdim7": ("m7b5", "min7b5", "ø", "ø7", "hdim7", "-7b5"),
        "aug": ("aug", "+"),
        "aug7": ("aug7", "+7", "7#5"),
        "sus2": ("sus2",),
        "sus4": ("sus4", "sus"),
        "sus4(b7)": ("7sus4", "7sus"),
        "9": ("9",),
        "maj9": ("maj9", "M9"),
        "min9": ("m9", "min9"),
        "11": ("11",),
        "min11": ("m11", "min11"),
        "13": ("13",),
        "min13": ("m13", "min13"),
        "maj(9)": ("add9",),
        "min(9)": ("madd9",),
        "maj6(9)": ("69", "6/9"),
        "7(b9)": ("7b9",),
        "7(#9)": ("7#9",),
        "7(*5,b5)": ("7b5",),
    }.items()
    for name in names
}


def beats(bpm: object, offset: object, confidence: object, duration: float) -> music.Beats | None:
    """A tempo and regular beats from the first beat on; the old StemTube stored no others, and no bars."""
    if bpm is None or (tempo := _number(bpm)) == 0:
        return None
    if not 0 < tempo <= MAX_BPM:
        raise ValueError(f"{tempo} is no tempo")
    found = music.Beats(tempo=music.Tempo(bpm=tempo, confidence=_share(confidence)))
    if offset is not None:
        first, period = _number(offset), 60 / tempo
        if not 0 <= first <= duration:
            raise ValueError("the first beat lies outside the song")
        count = math.floor((duration - first) / period) + 1
        found.beats.extend(music.Beat(time=first + number * period) for number in range(count))
    return found


def key(name: object, confidence: object) -> music.Key | None:
    """A key such as `C# minor`, `Am` or `F major`."""
    if name is None or not str(name).strip():
        return None
    match = _KEY.fullmatch(str(name).strip())
    if match is None:
        raise ValueError(f"{str(name)[:MAX_SECTION_LABEL]!r} is no key")
    mode = match[3] or ""
    is_minor = mode == "m" or mode.lower() in ("min", "minor")
    tonic = match[1].upper() + match[2].lower().translate(_SIGNS)
    return music.Key(tonic=tonic, mode="minor" if is_minor else "major", confidence=_share(confidence))


def chords(content: object, duration: float) -> music.Chords | None:
    """Chords from `[{timestamp, chord}]` in Harte syntax, each up to the next one; invalid labels become X."""
    starts = {
        _number(_first(entry, "timestamp", "time", "start")): harte(str(_first(entry, "chord", "label", "name")))
        for entry in _entries(content, "chords")
    }
    if not starts:
        return None
    if SAME_SECONDS < min(starts) < duration:
        starts[0.0] = "N"
    return music.Chords(
        chords=[
            music.Chord(start=start, end=end, label=starts[begin]) for start, end, begin in _spans(starts, duration)
        ]
    )


def structure(content: object, duration: float) -> music.Structure | None:
    """Sections, each up to the next one; those with the same label form a group."""
    starts = {
        _number(_first(entry, "start", "start_time", "timestamp", "time")): _label(
            _first(entry, "label", "section", "name", "segment")
        )
        for entry in _entries(content, "sections", "segments", "structure")
    }
    if not starts:
        return None
    groups = {label: number for number, label in enumerate(dict.fromkeys(starts[start] for start in sorted(starts)))}
    return music.Structure(
        sections=[
            music.Section(start=start, end=end, label=starts[begin], group=groups[starts[begin]])
            for start, end, begin in _spans(starts, duration)
        ]
    )


def lyrics(content: object, duration: float) -> music.Lyrics | None:
    """Lines with their words, from Whisper's segments; empty ones are left out."""
    entries = _entries(content, "segments", "lyrics", "lines")
    if not entries:
        return None
    language = str(content.get("language") or "") if isinstance(content, dict) else ""
    found = music.Lyrics(language=language if re.fullmatch(r"[a-z]{2,3}", language) else "")
    for entry in sorted(entries, key=lambda entry: _number(_first(entry, "start"))):
        text = _text(entry.get("text"))
        start, end = _span(entry, 0.0, duration)
        if not text:
            continue
        line = found.lines.add(start=start, end=end, text=text)
        words = entry.get("words") or []
        if not isinstance(words, list) or not all(isinstance(word, dict) for word in words):
            raise ValueError("the words of a line are no list of words")
        for word in sorted(words, key=lambda word: _number(_first(word, "start"))):
            spoken = _text(word.get("word") or word.get("text"))
            if spoken:
                begin, finish = _span(word, start, end)
                confidence = _share(word.get("probability", word.get("confidence")))
                line.words.add(start=begin, end=finish, text=spoken, confidence=confidence)
    return found


def harte(name: str) -> str:
    """Converts a chord as musicians write it (`F#m7b5/C`) to Harte syntax; X if it is not valid."""
    name = name.strip().translate(_SIGNS)
    if name in _NO_CHORD:
        return "N"
    match = _ROOT.fullmatch(name)
    if match is None:
        return "X"
    root, quality, bass = match[1] + match[2], match[3], ""
    if quality not in _QUALITIES and "/" in quality:
        quality, _, bass = quality.rpartition("/")
    if quality in _QUALITIES:
        degree = _degree(root, bass) if bass else ""
        label = f"{root}:{_QUALITIES[quality]}" + (f"/{degree}" if degree and degree != "1" else "")
        return label if is_chord_label(label) else "X"
    return name if is_chord_label(name) else "X"


def _degree(root: str, bass: str) -> str:
    """The bass note as a degree above the root: Bb above C is b7. Empty if it is not a note, or too far away."""
    if not _BASS.fullmatch(bass):
        return bass if bass[-1].isdigit() else ""
    step = (_LETTERS.index(bass[0]) - _LETTERS.index(root[0])) % 7
    altered = (_pitch(bass) - _pitch(root) - _MAJOR_SCALE[step] + 6) % 12 - 6
    if abs(altered) > 2:
        return ""
    return ("#" * altered if altered > 0 else "b" * -altered) + str(step + 1)


def _pitch(note: str) -> int:
    return _PITCHES[note[0]] + note.count("#") - note.count("b")


def _spans(starts: Iterable[float], duration: float) -> list[tuple[float, float, float]]:
    """Start and end of segments that cover a song, and the original start of each."""
    ordered = sorted(start for start in starts if start < duration - SAME_SECONDS)
    if not ordered or ordered[0] < 0:
        raise ValueError("it lies outside the song")
    kept = [ordered[0], *(later for earlier, later in pairwise(ordered) if later - earlier > SAME_SECONDS)]
    ends = [*kept[1:], duration]
    return [(start if number else 0.0, end, start) for number, (start, end) in enumerate(zip(kept, ends, strict=True))]


def _entries(content: object, *names: str) -> list[dict[str, Any]]:
    """The list of entries: the content itself, or a list in it with one of these names."""
    if isinstance(content, dict):
        content = next((content[name] for name in names if name in content), content)
    if content is None:
        return []
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise ValueError("it is not a list of entries")
    return content


def _first(entry: dict[str, Any], *names: str) -> object:
    for name in names:
        if entry.get(name) is not None:
            return entry[name]
    raise ValueError(f"an entry has no {names[0]}")


def _number(value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{str(value)[:MAX_SECTION_LABEL]!r} is no number")
    return number


def _share(value: object) -> float:
    """A confidence; 0 if unknown."""
    return 0.0 if value is None else min(max(_number(value), 0.0), 1.0)


def _span(entry: dict[str, Any], first: float, last: float) -> tuple[float, float]:
    start = min(max(_number(_first(entry, "start")), first), last)
    return start, min(max(_number(_first(entry, "end", "start")), start), last)


def _label(value: object) -> str:
    return _text(value)[:MAX_SECTION_LABEL].strip().lower() or "section"


def _text(value: object) -> str:
    printable = "".join(one if one.isprintable() else " " for one in str(value or ""))
    return " ".join(printable.split())[:MAX_LINE_TEXT]
