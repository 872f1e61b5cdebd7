"""Finds bars: the number of their beats, and the first of them.

The network's downbeats alone fail in chorales, and if the loudest beat is not the first one. Then harmony, which
changes with the bar, is better evidence. A song has one meter, but a bar may be shorter than the others.
"""

import numpy as np
import numpy.typing as npt

from services.analysis.backends.beats.evidence import Floats

# Factors by which these meters must explain the evidence better: a bar of two mostly counts as half a bar of four, and
# five or seven beats are rare.
_USUAL = (3, 4)
_MOST_USUAL = 4
_RARE = {2: 1.8, 5: 2.0, 7: 2.0}
_TERNARY = (2, 4)
# Share of the evidence's variance that an unusual meter must explain.
_LEAST_EXPLAINED = 0.25
# Mean of the evidence explained by chance, times the number of beats; it seldom exceeds the second number.
_CHANCE = 2.0
_LEAST_SURE = 6.0
# Factor by which the other usual meter must explain the evidence better than the tracker's.
_OVERRULED = 2.0
# Log probability that a bar ends early.
_BREAK = -12.0


def find_bars(downbeats: Floats, per_bar: int, ternary: bool) -> npt.NDArray[np.int64]:
    """The place in the bar of each beat, from 1.

    Args:
        downbeats: evidence [beats] that a bar begins, with mean 0.
        per_bar: beats in a bar according to the tracker, 3 or 4.
        ternary: whether a beat has three parts; bars then have two or four beats.
    """
    places = {meter: _places(downbeats, meter) for meter in (2, 3, 4, 5, 7)}
    explained = {meter: _explained(downbeats, found == 1) for meter, found in places.items()}
    if ternary:
        return places[max(_TERNARY, key=lambda meter: explained[meter])]
    return places[_meter(explained, per_bar, len(downbeats))]


def _meter(explained: dict[int, float], per_bar: int, beats: int) -> int:
    """Chooses the meter that explains most of the evidence."""
    if explained[per_bar] < _CHANCE / beats:
        per_bar = _MOST_USUAL
    usual = max(_USUAL, key=lambda meter: explained[meter])
    if explained[usual] < max(_OVERRULED * explained[per_bar], _LEAST_SURE / beats):
        usual = per_bar
    rare = max(_RARE, key=lambda meter: explained[meter] / _RARE[meter])
    if explained[rare] > max(_LEAST_EXPLAINED, _RARE[rare] * explained[usual]):
        return rare
    return usual


def _explained(evidence: Floats, downbeats: npt.NDArray[np.bool_]) -> float:
    """The share of the evidence's variance that these downbeats explain."""
    mean = float(evidence[downbeats].mean())
    odds = downbeats.sum() / max((~downbeats).sum(), 1)
    return float(odds * mean * abs(mean) / max(float(evidence.var()), 1e-9))


def _places(evidence: Floats, meter: int) -> npt.NDArray[np.int64]:
    """The most probable places in the bar (Viterbi); `_BREAK` is the cost of a bar that ends early."""
    phase = int(np.argmax([evidence[phase::meter].mean() for phase in range(min(meter, len(evidence)))]))
    on = np.arange(len(evidence)) % meter == phase
    within, without = float(evidence[on].mean()), float(evidence[~on].mean())
    spread = float(np.mean(np.where(on, evidence - within, evidence - without) ** 2))
    odds = (within - without) / max(spread, 1e-9) * (evidence - (within + without) / 2)
    scores = np.zeros(meter)
    came = np.zeros((len(evidence), meter), np.int64)
    for beat in range(len(evidence)):
        if beat:
            following, broken = np.roll(scores, 1), float(scores.max()) + _BREAK
            came[beat] = (np.arange(meter) - 1) % meter
            if broken > following[0]:
                following[0], came[beat, 0] = broken, int(scores.argmax())
            scores = following
        scores[0] += odds[beat]
    places = np.empty(len(evidence), np.int64)
    place = int(scores.argmax())
    for beat in range(len(evidence) - 1, -1, -1):
        places[beat] = place + 1
        place = int(came[beat, place])
    return places
