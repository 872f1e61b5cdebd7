"""Bars of beats: how many beats they have, and with which they begin.

The network's downbeats alone fail where the loudest beat is not the first one and in chorales; harmony, which changes
with the bar, tells more then. One meter is taken for a song, but a bar may be shorter or longer than the others.
"""

import numpy as np
import numpy.typing as npt

from services.analysis.backends.beat_evidence import Floats

# A bar of two is a half of one of four for most ears, and five or seven beats are rare: they must explain the evidence
# so many times better.
_USUAL = (3, 4)
_MOST_USUAL = 4
_RARE = {2: 1.8, 5: 2.0, 7: 2.0}
_TERNARY = (2, 4)
# Share of the evidence's variance that a meter out of the usual must explain.
_LEAST_EXPLAINED = 0.25
# What chance explains, times the number of beats; it is seldom more than the second.
_CHANCE = 2.0
_LEAST_SURE = 6.0
# Times better than the tracker's meter must the other usual one explain the evidence.
_OVERRULED = 2.0
# Log probability that a bar breaks off.
_BREAK = -12.0


def find_bars(downbeats: Floats, per_bar: int, ternary: bool) -> npt.NDArray[np.int64]:
    """The place in the bar of each beat, from 1.

    Args:
        downbeats: evidence [beats] that a bar begins, of mean 0.
        per_bar: beats in a bar as the tracker has it, 3 or 4.
        ternary: whether a beat has three parts; bars then have two or four beats.
    """
    meter = find_meter(downbeats, per_bar, ternary)
    return _places(downbeats, meter)


def find_meter(downbeats: Floats, per_bar: int, ternary: bool) -> int:
    """How many beats a bar has; see `find_bars`."""
    explained = {meter: _explained(downbeats, meter) for meter in (2, 3, 4, 5, 7)}
    if ternary:
        return max(_TERNARY, key=lambda meter: explained[meter])
    if explained[per_bar] < _CHANCE / len(downbeats):
        per_bar = _MOST_USUAL
    usual = max(_USUAL, key=lambda meter: explained[meter])
    if explained[usual] < max(_OVERRULED * explained[per_bar], _LEAST_SURE / len(downbeats)):
        usual = per_bar
    rare = max(_RARE, key=lambda meter: explained[meter] / _RARE[meter])
    if explained[rare] > max(_LEAST_EXPLAINED, _RARE[rare] * explained[usual]):
        return rare
    return usual


def _explained(evidence: Floats, meter: int) -> float:
    """The share of the evidence's variance that bars of `meter` beats explain, of the best phase."""
    shares = []
    for phase in range(min(meter, len(evidence))):
        bars = evidence[phase::meter]
        rest = len(evidence) - len(bars)
        mean = float(bars.mean())
        shares.append(len(bars) / max(rest, 1) * mean * abs(mean))
    return max(shares) / max(float(evidence.var()), 1e-9)


def _places(evidence: Floats, meter: int) -> npt.NDArray[np.int64]:
    """The most probable places (Viterbi), `_BREAK` being the price of any bar of another length."""
    phase = int(np.argmax([evidence[phase::meter].mean() for phase in range(meter)]))
    on = np.arange(len(evidence)) % meter == phase
    within, without = float(evidence[on].mean()), float(evidence[~on].mean())
    spread = float(np.mean(np.where(on, evidence - within, evidence - without) ** 2))
    odds = (within - without) / max(spread, 1e-9) * (evidence - (within + without) / 2)
    scores = np.zeros(meter)
    came = np.zeros((len(evidence), meter), np.int64)
    for beat in range(len(evidence)):
        if beat:
            following, jump = np.roll(scores, 1), float(scores.max()) + _BREAK
            came[beat] = np.where(following >= jump, (np.arange(meter) - 1) % meter, int(scores.argmax()))
            scores = np.maximum(following, jump)
        scores[0] += odds[beat]
    places = np.empty(len(evidence), np.int64)
    place = int(scores.argmax())
    for beat in range(len(evidence) - 1, -1, -1):
        places[beat] = place + 1
        place = int(came[beat, place])
    return places
