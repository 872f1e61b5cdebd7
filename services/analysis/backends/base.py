"""The interface of analysis backends: arrays in, these dataclasses out.

Times are seconds from the start of the track, confidences lie in [0, 1], chord labels follow Harte's syntax
(Harte et al., ISMIR 2005) as `mir_eval` reads it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from services.common.errors import PreconditionError
from services.common.parts import Part
from services.common.samples import Audio
from services.common.weights.catalogue import Entry
from services.common.weights.store import WeightStore

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendEntry(Entry):
    """The facts about a backend before it is loaded; `cost` is seconds of one CPU core per minute of audio.

    Args:
        module: the module beside its `entries.py` whose `load` (see `Loader`) makes it.
        description: one sentence for a person.
        vocabulary: what it can answer, where that is a closed list: qualities of chords in Harte syntax, modes,
            section names.
        needs: parts whose results it uses if they are there (see `Context`).
        asks_language_model: whether it needs an endpoint that the operator names.
        proves_device: whether its module has `prove(device)`, which raises a DeviceNotReadyError if the library by
            which it uses a GPU, other than torch, cannot use this one.
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
    """Beats and the tempo that follows from them; without a pulse `beats` is empty, `bpm` and `confidence` are 0.

    Where the tempo drifts, `curve` follows it; where it is steady there is none.
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


Mode = Literal["major", "minor", ""]


@dataclass(frozen=True, slots=True)
class KeyRegion:
    """A stretch of a song that stays in one key; `tonic` and `mode` as a `Key` has them."""

    start: float
    end: float
    tonic: str
    mode: Mode
    confidence: float


@dataclass(frozen=True, slots=True)
class Key:
    """The song's main key, and where it is in which key.

    Args:
        tonic: a note name (C, C#, Db …), empty if there is no tonal content.
        mode: "major" or "minor", empty with the tonic.
        confidence: of the main key.
        regions: cover [0, duration] without gaps or overlaps, neighbours differing in key: one where the key never
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
    """Segments that cover [0, duration] without gaps or overlaps, neighbours differing in label."""

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
    """One line as a singer would read it."""

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
        words_from: "heard" (recognised), "given" by the user, or "found" where others have written them down.
    """

    language: str
    lines: tuple[Line, ...]
    words_from: Literal["heard", "given", "found"] = "heard"


Result = Beats | Key | Chords | Structure | Lyrics


@dataclass(frozen=True, slots=True)
class Context:
    """The inputs of a backend beside the audio: results of the parts named in its `needs`, and the caller's options.

    A backend of the structure that is given a `structure` names its sections again: then the audio is the vocals stem,
    and `lyrics` are what is sung, if that is known. For the lyrics, `mix` decodes the mix that the vocals are from (any
    rate and number of channels) when it is called, `options["text"]` are the words where they are known, and
    `options["found_text"]` where it is likely that they are these.
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
            progress: called with the fraction done, in [0, 1], never falling; it raises
                `services.common.errors.StoppedError` to stop the work.

        Raises:
            StoppedError: out of `progress`.
        """
        ...


class Loader(Protocol):
    """The `load` function of a backend's module."""

    def __call__(self, store: WeightStore | None, model: str, device: str) -> Backend:
        """Brings the models into memory.

        Args:
            store: where weights are found; backends that a Python package carries whole do without.
            model: which of the backend's models; ignored where there is only one.
            device: "cpu" or "cuda"; ignored by backends that only know the CPU.

        Raises:
            services.common.errors.WeightsMissingError: the weights are neither here nor to be fetched.
        """
        ...
