"""The interface of analysis backends: they take arrays and return these dataclasses.

Times are seconds from the start of the track, confidences are in [0, 1], and chord labels are in Harte syntax
(Harte et al., ISMIR 2005) as `mir_eval` reads it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from services.common.errors import PreconditionError
from services.common.parts import Part
from services.common.samples import Audio
from services.common.weights.catalogue import Entry
from services.common.weights.store import WeightStore

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendEntry(Entry):
    """Describes a backend before it is loaded; `cost` is seconds of one CPU core per minute of audio.

    Args:
        module: the module beside `entries.py` with the backend's `load` function (see `Loader`).
        description: one sentence for a person.
        vocabulary: what it can answer, where that is a closed list: qualities of chords in Harte syntax, modes,
            section names.
        needs: parts whose results it uses if they are there (see `Context`).
        asks_language_model: whether it needs an endpoint that the operator names.
        proves_device: whether its module has `prove(device)`, for backends that use GPUs by another library than torch;
            it raises a DeviceNotReadyError if that library cannot use the device.
    """

    module: str
    description: str
    vocabulary: tuple[str, ...] = ()
    needs: tuple[Part, ...] = ()
    asks_language_model: bool = False
    proves_device: bool = False


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of a language model.

    Args:
        url: base URL, e.g. `http://127.0.0.1:11434/v1`; `/chat/completions` follows it.
        model: the name that the endpoint knows it by.
        key: sent as a bearer token; empty: none is needed.
        timeout_seconds: longest wait for an answer, all tries together.
    """

    url: str
    model: str
    key: str = field(default="", repr=False)
    timeout_seconds: float = 60.0


class UnusableError(PreconditionError):
    """A backend cannot be used for this track, now or at all; `auto` uses another."""


@dataclass(frozen=True, slots=True)
class Beat:
    """One beat; `position` counts from 1 (the downbeat) within its bar, 0 if the backend finds no bars."""

    time: float
    position: int


@dataclass(frozen=True, slots=True)
class TempoPoint:
    """The tempo around a time, in beats per minute."""

    time: float
    bpm: float


@dataclass(frozen=True, slots=True)
class Beats:
    """Beats and their tempo; without a pulse, `beats` is empty, and `bpm` and `confidence` are 0.

    `curve` has the tempo over time if it drifts; it is empty if the tempo is steady.
    """

    beats: tuple[Beat, ...]
    bpm: float
    confidence: float
    beats_per_bar: int
    curve: tuple[TempoPoint, ...] = ()

    @property
    def first_downbeat(self) -> float:
        """Seconds; 0 if there are no bars."""
        return next((beat.time for beat in self.beats if beat.position == 1), 0.0)


# Nearer to half a semitone than this, the estimate does not tell on which side the tuning is.
_COIN_TOSS_CENTS = 3.0


@dataclass(frozen=True, slots=True)
class TuningPoint:
    """The tuning around a time, in cents above A = 440 Hz."""

    time: float
    cents: float


@dataclass(frozen=True, slots=True)
class Tuning:
    """The tuning of a song.

    Args:
        cents: above A = 440 Hz, in [-50, 50]; 0 without notes.
        confidence: how well the song's partials agree; 0 without notes.
        curve: the tuning over time if it drifts, continuous, so beyond 50 cents if it drifts there; empty if steady.
    """

    cents: float
    confidence: float
    curve: tuple[TuningPoint, ...] = ()

    @property
    def ambiguous(self) -> bool:
        """Whether notes lie in the middle between two semitones, so that their names could be a semitone higher."""
        return abs(self.cents) > 50 - _COIN_TOSS_CENTS

    def at(self, times: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Cents at times in seconds, [times]."""
        if not self.curve:
            return np.full(np.shape(times), self.cents)
        points = np.array([(point.time, point.cents) for point in self.curve])
        return np.asarray(np.interp(times, points[:, 0], points[:, 1]))


Mode = Literal["major", "minor", ""]


@dataclass(frozen=True, slots=True)
class KeyRegion:
    """A passage in one key; `tonic` and `mode` as in `Key`."""

    start: float
    end: float
    tonic: str
    mode: Mode
    confidence: float


@dataclass(frozen=True, slots=True)
class Key:
    """The song's main key and its changes of key.

    Args:
        tonic: a note name (C, C#, Db …), empty if there is no tonal content.
        mode: "major" or "minor"; empty if `tonic` is.
        confidence: of the main key.
        regions: cover [0, duration] without gaps or overlaps; neighbours differ in key. One region if the key never
            changes, none without a tonic.
    """

    tonic: str
    mode: Mode
    confidence: float
    regions: tuple[KeyRegion, ...] = ()


@dataclass(frozen=True, slots=True)
class Chord:
    """One chord segment; `label` in Harte syntax (`A:min7`, `C:maj/3`, `N`)."""

    start: float
    end: float
    label: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Chords:
    """Segments that cover [0, duration] without gaps or overlaps; neighbours differ in label."""

    chords: tuple[Chord, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """One section of the song, e.g. `verse`.

    Args:
        start: in seconds.
        end: in seconds.
        label: its usual name.
        confidence: of its boundaries.
        group: sections with the same number sound alike.
        level: mean level in dB, for comparison within the song.
    """

    start: float
    end: float
    label: str
    confidence: float
    group: int = 0
    level: float = 0.0


@dataclass(frozen=True, slots=True)
class Structure:
    """Sections that cover [0, duration] without gaps or overlaps."""

    sections: tuple[Section, ...]


@dataclass(frozen=True, slots=True)
class Word:
    """One sung word."""

    start: float
    end: float
    text: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the lyrics."""

    start: float
    end: float
    text: str
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Lyrics:
    """`language` is an ISO 639-1 code; a track without words has no lines.

    Args:
        language: of the words.
        lines: in order.
        words_from: "heard" (recognised), "given" by the user, or "found" on a lyrics site.
    """

    language: str
    lines: tuple[Line, ...]
    words_from: Literal["heard", "given", "found"] = "heard"


Result = Beats | Key | Chords | Structure | Lyrics | Tuning


@dataclass(frozen=True, slots=True)
class Context:
    """The inputs of a backend besides the audio: results of the parts in its `needs`, and the caller's options.

    A structure backend that gets a `structure` only names its sections again: then the audio is the vocals stem, and
    `lyrics` are the sung words, if known. A lyrics backend gets `mix`, a function that decodes the mix of the vocals
    (any rate and number of channels), `options["text"]` if the user has given the words, and `options["found_text"]` if
    a lyrics site has words that may be right.
    """

    beats: Beats | None = None
    structure: Structure | None = None
    lyrics: Lyrics | None = None
    mix: Callable[[], Audio] | None = None
    options: dict[str, Any] = field(default_factory=dict)


class Backend(Protocol):
    """A loaded backend: models in memory, ready for many calls from one thread at a time."""

    def analyze(self, audio: Audio, context: Context, progress: Progress) -> Result:
        """Analyses a whole track.

        Args:
            audio: the mix (lyrics, names of sections: the vocals stem), any rate and number of channels.
            context: earlier results and options.
            progress: called with the fraction done in [0, 1], which never falls; it raises
                `services.common.errors.StoppedError` to stop the work.

        Raises:
            StoppedError: raised by `progress`.
        """
        ...


class Loader(Protocol):
    """The `load` function of a backend's module."""

    def __call__(self, store: WeightStore | None, model: str, device: str) -> Backend:
        """Loads the models into memory.

        Args:
            store: of the weights; backends whose weights come with a Python package do not need it.
            model: one of the backend's models; ignored if there is only one.
            device: "cpu" or "cuda"; ignored by backends that use only the CPU.

        Raises:
            services.common.errors.WeightsMissingError: the weights are missing and cannot be fetched.
        """
        ...
