"""The traits by which sections are named: singing, from the vocals stem, and words."""

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from services.analysis.backends.base import Lyrics, Section, Structure
from services.analysis.backends.signal.features import mono
from services.analysis.backends.structure.names import SILENCE, Traits, name_sections
from services.common.samples import Audio

_SAMPLE_RATE_HZ = 11_025
_FRAME = 512
# Somebody sings if the vocals stem is within this many dB of its loud places. Breaths, reverberation and remains of the
# band are at least 30 dB lower on reference songs.
_QUIETER_DB = 24.0
_LOUD_PERCENTILE = 95.0
_SILENCE_DB = -60.0
# The music begins and ends with the first and last sound within this many dB of the loudest place.
_HEARD_DB = -50.0
_SOUND_FRAME_SECONDS = 0.01
# Shorter silences belong to the section beside them; at the end, the last chord fades in them.
_LEAST_FIRST_SECONDS = 0.2
_LEAST_LAST_SECONDS = 3.0
_WORD = re.compile(r"[\w']+")


def relabel(structure: Structure, vocals: Audio, lyrics: Lyrics | None) -> Structure:
    """Names the same sections again, with regard to the singing.

    Args:
        structure: sections with groups and levels.
        vocals: the vocals stem of the same track.
        lyrics: the words, if known.
    """
    return renamed(structure, name_sections(traits(structure, vocals, lyrics)))


def renamed(structure: Structure, names: Sequence[str]) -> Structure:
    """The same sections, with new names for those that are not silent."""
    named = iter(names)
    return Structure(
        tuple(
            section if section.label == SILENCE else replace(section, label=next(named))
            for section in structure.sections
        )
    )


def sounding(structure: Structure) -> list[Section]:
    """The sections that are not silent."""
    return [section for section in structure.sections if section.label != SILENCE]


def with_silences(structure: Structure, audio: Audio) -> Structure:
    """Adds silent sections before and after the music.

    Args:
        structure: covers the track.
        audio: the mix.
    """
    mix = mono(audio, _SAMPLE_RATE_HZ)
    frame = round(_SOUND_FRAME_SECONDS * _SAMPLE_RATE_HZ)
    frames = np.square(mix[: mix.size // frame * frame].reshape(-1, frame), dtype=np.float64).mean(axis=1)
    heard = np.flatnonzero(frames > frames.max(initial=0.0) * 10 ** (_HEARD_DB / 10))
    if heard.size == 0 or not structure.sections:
        return structure
    sections = list(structure.sections)
    other = 1 + max(section.group for section in sections)
    level = 10 * float(np.log10(frames.min() + 1e-12))
    start, end = float(heard[0]) * frame / _SAMPLE_RATE_HZ, float(heard[-1] + 1) * frame / _SAMPLE_RATE_HZ
    if _LEAST_FIRST_SECONDS <= start < sections[0].end:
        sections[0] = replace(sections[0], start=start)
        sections.insert(0, Section(0.0, start, SILENCE, 1.0, other, level))
    if audio.duration - end >= _LEAST_LAST_SECONDS and end > sections[-1].start:
        sections[-1] = replace(sections[-1], end=end)
        sections.append(Section(end, audio.duration, SILENCE, 1.0, other, level))
    return Structure(tuple(sections))


def one_section(duration: float) -> Structure:
    """The structure of a track that is not divided; empty if the track has no length."""
    return Structure((Section(0.0, duration, "A", 0.0),) if duration > 0 else ())


def traits(structure: Structure, vocals: Audio | None, lyrics: Lyrics | None) -> list[Traits]:
    """The traits of sections that are not silent; without `vocals` or `lyrics`, singing or words are unknown."""
    active = _activity(vocals) if vocals else None
    return [
        Traits(
            section.group,
            section.level,
            section.end - section.start,
            _share(active, section) if active is not None else None,
            _words(lyrics, section) if lyrics else (),
        )
        for section in sounding(structure)
    ]


def _activity(vocals: Audio) -> npt.NDArray[np.bool_]:
    """Whether somebody sings, in each frame."""
    mix = mono(vocals, _SAMPLE_RATE_HZ)
    frames = mix[: mix.size // _FRAME * _FRAME].reshape(-1, _FRAME)
    levels = 10 * np.log10(np.mean(frames.astype(np.float64) ** 2, axis=1) + 1e-12)
    loud = float(np.percentile(levels, _LOUD_PERCENTILE)) if levels.size else 0.0
    return np.asarray(levels > max(loud - _QUIETER_DB, _SILENCE_DB))


def _share(active: npt.NDArray[np.bool_], section: Section) -> float:
    first, last = (round(time * _SAMPLE_RATE_HZ / _FRAME) for time in (section.start, section.end))
    frames = active[first:last]
    return float(frames.mean()) if frames.size else 0.0


def _words(lyrics: Lyrics, section: Section) -> tuple[str, ...]:
    """Words whose middle is in the section; from lines without word times, all words if the line's middle is in it."""
    words: list[str] = []
    for line in lyrics.lines:
        for part in line.words or (line,):
            if section.start <= (part.start + part.end) / 2 < section.end:
                words += _WORD.findall(part.text.lower())
    return tuple(words)
