"""The analysis backends, from the module `entries` in each part's folder.

Importing this module loads no models and none of their libraries.
"""

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import cast

from services.analysis.backends.base import Backend, BackendEntry, Endpoint, Loader, Progress
from services.common.compute.devices import has_gpu
from services.common.errors import InvalidInputError, WeightsMissingError
from services.common.parts import PARTS, Part
from services.common.weights.catalogue import AUTO, NO_FAULTS, Catalogue, Choice, Model, check_language
from services.common.weights.store import Availability, Weights, WeightStore

Order = Mapping[Part, Sequence[str]]
"""The order of `auto` for each part, best first, see `catalogue.Preference`; empty: the order of the part's entries."""

NO_ORDER: Order = {}


def names(part: Part) -> list[str]:
    """The names of a part's backends, best first."""
    return _catalogue(part).names()


def entry(part: Part, name: str) -> BackendEntry:
    """The entry of a backend.

    Raises:
        InvalidInputError: there is no such backend (reason UNKNOWN_BACKEND).
    """
    return _catalogue(part).entry(name)


def availability(part: Part, name: str, store: WeightStore, model: str = "") -> Availability:
    """Whether a backend can be used now, and why (not). Loads nothing; may ask a hub.

    Args:
        part: the part that the backend finds.
        name: of the backend, not `auto`.
        store: of the weights.
        model: one of its models; empty: any.

    Raises:
        InvalidInputError: there is no such backend or model (reason UNKNOWN_BACKEND, UNKNOWN_MODEL).
    """
    return _catalogue(part).availability(name, store, model)


def choose(
    part: Part,
    backend: str,
    model: str,
    store: WeightStore,
    device: str = "auto",
    failed: Mapping[tuple[str, str], str] = NO_FAULTS,
    language_model: Endpoint | None = None,
    order: Order = NO_ORDER,
    language: str = "",
) -> Choice[BackendEntry]:
    """Resolves a user's choice of backend and model, names or `auto`. Only `auto` ever leads to a substitute.

    Args:
        part: the wanted part.
        backend: a name, or `auto` for the best available one.
        model: of the backend, or `auto`.
        store: of the weights.
        device: "cpu", "cuda" or "auto"; the best model depends on it.
        failed: (backend, model) that could not be used although they seemed available, and why.
        language_model: set by the operator. Without it, `auto` does not choose backends that need one; they can still
            be chosen by name, and then only their part fails.
        order: the order of `auto`.
        language: a language that the model must support; empty: any.

    Raises:
        InvalidInputError: there is no such backend or model (reason UNKNOWN_BACKEND, UNKNOWN_MODEL), or the model does
            not support the language (LANGUAGE_NOT_SUPPORTED).
        WeightsMissingError: the choice is not available; the message says how to get it.
    """
    catalogue = _catalogue(part, order.get(part, ()), language_model)
    asking = [name for name in catalogue.names() if catalogue.entry(name).asks_language_model]
    choice = catalogue.choose(
        backend,
        store,
        model=model,
        has_gpu=has_gpu(device),
        skipped=() if language_model else asking,
        failed=failed,
    )
    check_language(" ".join((choice.entry.name, choice.model.name)), choice.model.languages, language)
    return choice


def load(
    part: Part,
    name: str,
    store: WeightStore,
    model: str = "",
    device: str = "cpu",
    progress: Progress = lambda _: None,
) -> Backend:
    """Loads a backend into memory, fetching its weights if necessary; it can then analyse any number of tracks.

    Args:
        part: the part that the backend finds.
        name: of the backend, not `auto`.
        store: of the weights.
        model: one of its models, if there are several.
        device: "cpu", "cuda" or "auto"; some backends always use the CPU.
        progress: called with the fraction fetched, in [0, 1]; an exception from it stops the download.

    Raises:
        InvalidInputError: there is no such backend or model (reason UNKNOWN_BACKEND, UNKNOWN_MODEL).
        WeightsMissingError: its weights or libraries are not available.
    """
    catalogue = _catalogue(part)
    known = catalogue.entry(name)
    # The operator chooses a language model's name, so it is not one of the entry's models.
    own_model = "" if known.asks_language_model else model
    found = catalogue.availability(name, store, own_model)
    if not found.available:
        raise WeightsMissingError(found.reason, backend=name, part=part)
    if weights := known.weights_of(catalogue.model(known, own_model)):
        store.fetch(weights, progress)
    return cast(Loader, _module(part, known).load)(store, model, device)


def prove_device(device: str) -> None:
    """Checks a device with the backends that use GPUs by other libraries than torch.

    Args:
        device: that torch can use, such as "cuda".

    Raises:
        DeviceNotReadyError: one cannot.
    """
    for part in PARTS:
        for known in _entries(part):
            if known.proves_device and all(importlib.util.find_spec(name) for name, _ in known.packages):
                _module(part, known).prove(device)


def check_order(order: Order) -> None:
    """Checks an order of `auto`.

    Raises:
        ValueError: a name is not that of a backend of its part, or of a model of that backend.
    """
    for part, preferences in order.items():
        _catalogue(part, preferences).check_order()


def weights(name: str) -> Weights:
    """The weights for a name `BACKEND` or `BACKEND/MODEL`.

    Raises:
        InvalidInputError: there is no such model (reason UNKNOWN_MODEL).
    """
    catalogues = [_catalogue(part) for part in PARTS]
    for catalogue in catalogues:
        if found := catalogue.weights_named(name):
            return found
    known = ", ".join(name for catalogue in catalogues for name in catalogue.fetchable())
    raise InvalidInputError(f"there is no model {name!r} for an analysis; choose one of {known}", "UNKNOWN_MODEL")


def _catalogue(
    part: Part, order: Sequence[str] = (), language_model: Endpoint | None = None
) -> Catalogue[BackendEntry]:
    entries = _entries(part)
    if language_model:
        chosen = (Model(language_model.model),)
        entries = [replace(entry, models=chosen) if entry.asks_language_model else entry for entry in entries]
    return Catalogue(f"backend for {part}", entries, order or getattr(_listing(part), "AUTO", ()), "UNKNOWN_BACKEND")


def _entries(part: Part) -> Sequence[BackendEntry]:
    entries: Sequence[BackendEntry] = _listing(part).ENTRIES
    return entries


def _listing(part: Part) -> ModuleType:
    return importlib.import_module(f"{__package__}.{part}.entries")


def _module(part: Part, known: BackendEntry) -> ModuleType:
    return importlib.import_module(f"{__package__}.{part}.{known.module}")


__all__ = [
    "AUTO",
    "Order",
    "availability",
    "check_order",
    "choose",
    "entry",
    "load",
    "names",
    "prove_device",
    "weights",
]
