"""Makes chord segments from a label and a probability per frame."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from services.analysis.backends.base import Chord, Chords

NO_CHORD = "N"


def segments(
    labels: Sequence[str], probabilities: npt.NDArray[np.floating], seconds_per_frame: float, duration: float
) -> Chords:
    """Joins equal neighbours into segments that cover [0, duration].

    Args:
        labels: the chord of each frame, in Harte syntax; at least one.
        probabilities: of that chord in that frame [frames]; a segment's confidence is their mean.
        seconds_per_frame: frame i begins at i times this.
        duration: of the track in seconds; the last segment is cut or stretched to end there.
    """
    count = max(1, min(len(labels), int(np.ceil(duration / seconds_per_frame))))
    changes = [i for i in range(1, count) if labels[i] != labels[i - 1]]
    starts = [0, *changes]
    stops = [*changes, count]
    return Chords(
        tuple(
            Chord(
                start=start * seconds_per_frame,
                end=duration if stop == count else stop * seconds_per_frame,
                label=labels[start],
                confidence=float(np.clip(probabilities[start:stop].mean(), 0, 1)),
            )
            for start, stop in zip(starts, stops, strict=True)
        )
    )


def without_chords(duration: float) -> Chords:
    """One segment `N` for a track that is silent or too short; none if it has no length."""
    if duration <= 0:
        return Chords(())
    return Chords((Chord(start=0.0, end=duration, label=NO_CHORD, confidence=1.0),))
