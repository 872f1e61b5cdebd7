"""The stages of madmom's processing chains, on arrays: with bounded memory, progress, and stops between stages.

The only module that imports madmom itself (https://github.com/CPJKU/madmom; code BSD, models CC BY-NC-SA 4.0).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr

from services.analysis.backends.base import Progress
from services.analysis.backends.signal.features import mono
from services.analysis.backends.signal.tuning import tuning_of
from services.analysis.compat.madmom_metadata import import_madmom
from services.analysis.compat.madmom_stft import replace_stft
from services.common.samples import Audio

SAMPLE_RATE_HZ = 44_100
FRAMES_AT_ONCE = 1000
# A band is half a semitone wide; songs that are in tune are left as they are.
_IN_TUNE_CENTS = 5.0
Floats = npt.NDArray[np.float32]


def prepare() -> None:
    """Makes `from madmom.… import …` work, and speeds up its spectra; every madmom backend calls it first."""
    import_madmom()
    replace_stft()


def signal(audio: Audio) -> Any:
    """The track for madmom: a `Signal`, mono, float in [-1, 1], at 44.1 kHz.

    madmom's STFT divides integer samples by the range of their type, so floats give the same results as a file.
    """
    from madmom.audio.signal import Signal

    return Signal(mono(audio, SAMPLE_RATE_HZ), sample_rate=SAMPLE_RATE_HZ)


def in_tune(audio: Audio) -> tuple[Any, float]:
    """The track for madmom's networks of chords and keys, whose bands are tuned to A = 440 Hz.

    A track in another tuning is played slower or faster, so that its notes are in tune. Of a drift only the mean
    counts.

    Returns:
        A `Signal`, see `signal`, and its duration relative to the track's.
    """
    from madmom.audio.signal import Signal

    cents = tuning_of(audio).cents
    if abs(cents) < _IN_TUNE_CENTS:
        return signal(audio), 1.0
    stretch = 2 ** (cents / 1200)
    mix = soxr.resample(mono(audio, SAMPLE_RATE_HZ), SAMPLE_RATE_HZ, SAMPLE_RATE_HZ * stretch, quality="HQ")
    return Signal(mix, sample_rate=SAMPLE_RATE_HZ), stretch


def spectrogram(framing: Any, steps: Sequence[Any], signal_: Any, lead: int = 0) -> Iterator[tuple[float, Floats]]:
    """Runs framing, STFT and filter banks over a signal, a few thousand frames at a time.

    The STFT of a whole song of four minutes at three frame sizes takes half a gigabyte. Frames are independent of each
    other, except for differences to earlier frames, for which `lead` frames are computed again. So the joined blocks
    equal madmom's own result.

    Args:
        framing: madmom's `FramedSignalProcessor`.
        steps: the processors after it, each a function of the frames of one block.
        signal_: the result of `signal`.
        lead: frames before a block that its first frames depend on.

    Yields:
        The fraction done, and the next block: float32 [frames, bands].
    """
    frames = framing(signal_)
    for start in range(0, len(frames), FRAMES_AT_ONCE):
        stop = min(len(frames), start + FRAMES_AT_ONCE)
        first = max(0, start - lead)
        block = frames[first:stop]
        for step in steps:
            block = step(block)
        yield stop / len(frames), np.asarray(block[start - first :])


def part(progress: Progress, start: float, end: float) -> Callable[[float], None]:
    """`progress` for a stage that is the part from `start` to `end` of a backend's work."""
    return lambda done: progress(start + (end - start) * done)
