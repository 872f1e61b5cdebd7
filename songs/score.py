"""A score: the notes of a song in seconds, and what is true of the song by its making."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Signal = npt.NDArray[np.float64]
Span = tuple[float, float, str]


@dataclass(frozen=True, slots=True)
class Note:
    """A note, or with `pitch` None a stroke of a drum; `start` and `seconds` are times, `pitch` is a MIDI number."""

    start: float
    seconds: float
    instrument: str
    pitch: int | None
    level: float


@dataclass(frozen=True, slots=True)
class Truth:
    """What is true of a song; times in seconds from the start of its audio.

    Args:
        meter: as it is written.
        beats_per_bar: as a musician counts.
        beats: in order.
        downbeats: those of `beats` that begin a bar.
        chords: (start, end, label in Harte syntax), without gaps; `X` where only a tune plays.
        keys: (start, end, tonic and mode, as in "Eb minor"), the keys of passages; empty if only drums play.
        sections: (start, end, label); empty where the passages do not differ in sound.
        tuning_cents: from A = 440 Hz, the mean over the song.
        pulse: whether beats can be heard.
    """

    meter: str
    beats_per_bar: int
    beats: Signal
    downbeats: Signal
    chords: tuple[Span, ...]
    keys: tuple[Span, ...]
    sections: tuple[Span, ...]
    tuning_cents: float = 0.0
    pulse: bool = True

    @property
    def tempo_bpm(self) -> float:
        """The tempo of the median beat."""
        return 60.0 / float(np.median(np.diff(self.beats)))

    @property
    def key(self) -> tuple[str, str]:
        """Tonic and mode of the key that holds longest."""
        held: dict[str, float] = {}
        for start, end, key in self.keys:
            held[key] = held.get(key, 0.0) + end - start
        tonic, mode = max(held, key=lambda key: held[key]).split()
        return tonic, mode

    def moved(self, when: Callable[[Signal], Signal], duration: float) -> "Truth":
        """The truth after every time has become `when` of it; what is outside of [0, duration] afterwards is gone."""

        def times(old: Signal) -> Signal:
            new = when(old)
            return np.asarray(new[(new >= 0.0) & (new <= duration)])

        def spans(old: tuple[Span, ...]) -> tuple[Span, ...]:
            edges = [when(np.array([start, end])).clip(0.0, duration) for start, end, _ in old]
            return tuple(
                (float(start), float(end), label)
                for (start, end), (*_, label) in zip(edges, old, strict=True)
                if end > start
            )

        return replace(
            self,
            beats=times(self.beats),
            downbeats=times(self.downbeats),
            chords=spans(self.chords),
            keys=spans(self.keys),
            sections=spans(self.sections),
        )

    def entries(self) -> dict[str, Any]:
        """What can be heard of the truth as JSON, in the form of the reference songs' `truth.json`."""
        found: dict[str, Any] = {"meter": self.meter, "beats_per_bar": self.beats_per_bar}
        if self.pulse:
            middles, tempi = (self.beats[1:] + self.beats[:-1]) / 2, 60.0 / np.diff(self.beats)
            found |= {
                "tempo_bpm": self.tempo_bpm,
                "tempo_curve": [
                    {"time": float(time), "bpm": float(bpm)} for time, bpm in zip(middles, tempi, strict=True)
                ],
                "beats": self.beats.tolist(),
                "downbeats": self.downbeats.tolist(),
            }
        if self.keys:
            found |= {
                "tuning_cents": self.tuning_cents,
                "key": dict(zip(("tonic", "mode"), self.key, strict=True)),
                "keys": [
                    dict(zip(("start", "end", "tonic", "mode"), (start, end, *key.split()), strict=True))
                    for start, end, key in self.keys
                ],
                "chords": _labelled(self.chords),
            }
        if self.sections:
            found["sections"] = _labelled(self.sections)
        return found


def _labelled(spans: tuple[Span, ...]) -> list[dict[str, Any]]:
    return [{"start": start, "end": end, "label": label} for start, end, label in spans]


@dataclass(frozen=True, slots=True)
class Score:
    """A song as its notes, its truth and the seconds that it lasts."""

    notes: tuple[Note, ...]
    truth: Truth
    seconds: float
