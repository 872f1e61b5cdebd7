"""How close a separated stem is to the true one: its signal-to-distortion ratio (SDR) in dB, higher is better.

All of it is over both channels together and without any filter or gain that would forgive errors.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

FOUR_STEMS = ("drums", "bass", "other", "vocals")
SILENT = 1e-4
"""Power of a true window, relative to that of the stem, below which it counts as silent (-40 dB)."""
LARGEST_DECIBEL = 200.0
"""Of equal stems; beyond what float32 can tell."""


def sdr(true: Samples, estimate: Samples) -> float:
    """The SDR over a whole song: 10 log10 (sum of true² / sum of (true - estimate)²).

    This is the "new SDR" of the Sound Demixing Challenge 2023, by which MVSep's leaderboard compares models (Fabbro et
    al., "The Sound Demixing Challenge 2023: Music Demixing Track", 2024).

    Args:
        true: float32 [channels, samples].
        estimate: of the same shape.

    Returns:
        Decibels; NaN if the true stem is silent.
    """
    signal = _power(true)
    if signal == 0:
        return float("nan")
    distortion = _power(true.astype(np.float64) - estimate)
    return min(LARGEST_DECIBEL, 10 * float(np.log10(signal / distortion))) if distortion else LARGEST_DECIBEL


def median_sdr(true: Samples, estimate: Samples, sample_rate_hz: int, seconds: float = 1.0) -> float:
    """The median of the SDR of windows of one second, as museval sums up a song.

    museval (SiSEC 2018) also forgives what a filter of 512 taps can correct, so its figures are higher. Windows
    in which the true stem is silent are left out.

    Args:
        true: float32 [channels, samples].
        estimate: of the same shape.
        sample_rate_hz: of both.
        seconds: length of a window; a shorter rest at the end is left out.

    Returns:
        Decibels; NaN if the true stem is silent.
    """
    size = max(1, round(seconds * sample_rate_hz))
    floor = SILENT * _power(true) / max(1, true.shape[1])
    found = []
    for start in range(0, true.shape[1] - size + 1, size):
        window = true[:, start : start + size]
        if _power(window) > floor * size:
            found.append(sdr(window, estimate[:, start : start + size]))
    return float(np.median(found)) if found else float("nan")


def comparable(true: Mapping[str, Samples], stems: Mapping[str, Samples]) -> dict[str, tuple[Samples, Samples]]:
    """A true stem and its estimate for each stem of a model that a song can tell about.

    `accompaniment` and `no_NAME` are compared with the sum of all other true stems, and `other` of a model with further
    stems, such as a guitar, together with those that the song does not have.

    Args:
        true: the song's stems by name, float32 [2, samples] each.
        stems: the model's.
    """
    found = {}
    surplus = [stem for stem in stems if stem not in true and stem not in FOUR_STEMS and not _without(stem)]
    for name, estimate in stems.items():
        if without := _without(name):
            if without in true:
                found[name] = (sum_of(stem for other, stem in true.items() if other != without), estimate)
        elif name == "other" and "other" in true:
            found[name] = (true["other"], sum_of([estimate, *(stems[each] for each in surplus)]))
        elif name in true:
            found[name] = (true[name], estimate)
    return found


def sum_of(stems: Iterable[Samples]) -> Samples:
    """The sum of stems."""
    total: Samples = np.sum(list(stems), axis=0, dtype=np.float32)
    return total


def _without(name: str) -> str:
    """The stem whose absence makes the rest that a stem is; empty if it is not a rest."""
    return "vocals" if name == "accompaniment" else name.removeprefix("no_") if name.startswith("no_") else ""


def _power(samples: npt.NDArray[np.floating]) -> float:
    return float(np.square(samples, dtype=np.float64).sum())
