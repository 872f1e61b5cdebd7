"""What names of sections go by, of sections that were found already: the voice from the vocals stem, and the words."""

import re
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from services.analysis.backends.base import Audio, Lyrics, Section, Structure
from services.analysis.backends.features import mono
from services.analysis.backends.section_names import Traits, name_sections

_SAMPLE_RATE_HZ = 11_025
_FRAME = 512
# Somebody sings where the vocals stem is within so many dB of its loud places: what else is there are breaths,
# reverberation and what a separation left of the band, 30 dB lower and more on reference songs.
_QUIETER_DB = 24.0
_LOUD_PERCENTILE = 95.0
_SILENCE_DB = -60.0
_WORD = re.compile(r"[\w']+")


def named_anew(structure: Structure, vocals: Audio, lyrics: Lyrics | None) -> Structure:
    """The same sections, with names that follow the singing too.

    Args:
        structure: whose sections' groups and levels are known.
        vocals: the vocals stem of the same track.
        lyrics: what is sung, if it is known.
    """
    names = name_sections(traits(structure, vocals, lyrics))
    return renamed(structure, names)


def renamed(structure: Structure, names: list[str]) -> Structure:
    """The same sections, with other names."""
    return Structure(
        tuple(replace(section, label=name) for section, name in zip(structure.sections, names, strict=True))
    )


def one_section(duration: float) -> Structure:
    """A track that is not divided; nothing of one without sound."""
    return Structure((Section(0.0, duration, "A", 0.0),) if duration > 0 else ())


def traits(structure: Structure, vocals: Audio | None, lyrics: Lyrics | None) -> list[Traits]:
    """The traits of sections; without `vocals` or `lyrics` nothing is known of the voice or the words."""
    active = _activity(vocals) if vocals else None
    return [
        Traits(
            section.group,
            section.level,
            section.end - section.start,
            _share(active, section) if active is not None else None,
            _words(lyrics, section) if lyrics else (),
        )
        for section in structure.sections
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
    """Words whose middle lies in the section; of lines without word times, those whose own middle does."""
    words: list[str] = []
    for line in lyrics.lines:
        for part in line.words or (line,):
            if section.start <= (part.start + part.end) / 2 < section.end:
                words += _WORD.findall(part.text.lower())
    return tuple(words)
