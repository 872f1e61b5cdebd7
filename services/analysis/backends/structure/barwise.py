"""Finds sections by comparing bars: boundaries by evidence and regularity, names by repetition.

docs/accuracy.md compares it with msaf.
"""

import numpy as np

from services.analysis.backends.base import Beats, Context, Progress, Section, Structure
from services.analysis.backends.signal.features import is_tonal
from services.analysis.backends.signal.librosa_beats import LibrosaBeats
from services.analysis.backends.signal.spectra import spectrum_of
from services.analysis.backends.structure.bars import find_bars
from services.analysis.backends.structure.boundaries import find_boundaries
from services.analysis.backends.structure.groups import section_groups
from services.analysis.backends.structure.names import Traits, name_sections
from services.analysis.backends.structure.traits import one_section, relabel, with_silences
from services.common.samples import Audio
from services.common.weights.store import WeightStore


class BarwiseStructure:
    """Needs only librosa; a section's confidence is the mean of its two boundaries' probabilities.

    Bars come from the beats in the context, or else from librosa's beats.
    """

    def __init__(self) -> None:
        self._beats = LibrosaBeats()

    def analyze(self, audio: Audio, context: Context, progress: Progress) -> Structure:
        """See `services.analysis.backends.base.Backend`."""
        if context.structure:
            structure = relabel(context.structure, audio, context.lyrics)
            progress(1.0)
            return structure
        if not is_tonal(audio):
            # The similarity of bars with only noise, clicks or drums does not show sections.
            progress(1.0)
            return one_section(audio.duration)
        beats = context.beats or self._beats_of(audio)
        found = spectrum_of(audio, lambda done: progress(0.7 * done))
        bars = find_bars(found, beats, audio.duration)
        progress(0.8)
        boundaries = find_boundaries(bars, audio.duration)
        progress(0.9)
        groups = section_groups(bars.likeness, boundaries.bars)
        times = [0.0, *(float(bars.starts[bar]) for bar in boundaries.bars[1:]), audio.duration]
        sure = [*boundaries.probabilities, 1.0]
        ends = [*boundaries.bars[1:], len(bars.starts)]
        levels = [float(np.mean(bars.levels[i:j])) for i, j in zip(boundaries.bars, ends, strict=True)]
        names = name_sections([Traits(groups[i], levels[i], times[i + 1] - times[i]) for i in range(len(groups))])
        progress(1.0)
        sections = (
            Section(times[i], times[i + 1], name, (sure[i] + sure[i + 1]) / 2, groups[i], levels[i])
            for i, name in enumerate(names)
        )
        return with_silences(Structure(tuple(sections)), audio)

    def _beats_of(self, audio: Audio) -> Beats:
        return self._beats.analyze(audio, Context(), lambda done: None)


def load(store: WeightStore | None, model: str, device: str) -> BarwiseStructure:
    """See `services.analysis.backends.base.Loader`."""
    return BarwiseStructure()
