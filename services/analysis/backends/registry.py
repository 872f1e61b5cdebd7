"""The analysis backends that can be chosen here, found in the `entries` module of each part's folder.

Importing this module loads no models and none of the libraries behind them.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import cast

from services.analysis.backends.base import Backend, BackendEntry, Loader, Progress
from services.analysis.backends.structure.language_model import Endpoint
from services.common.compute.devices import has_gpu
from services.common.errors import InvalidInputError, WeightsMissingError
from services.common.parts import PARTS, Part
from services.common.weights.catalogue import AUTO, NO_FAULTS, Catalogue, Model, check_language
from services.common.weights.store import Availability, Weights, WeightStore

Order = Mapping[Part, Sequence[str]]
"""What `auto` tries for each part, best first, as `catalogue.Preference` is written; a part without any: its own."""

OWN_ORDER: Order = {}


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
    return _catalogue(part).names()


def entry(part: Part, name: str) -> BackendEntry:
    """What is known of a backend before it is loaded.

    Raises:
        InvalidInputError: there is no such backend (reason UNKNOWN_BACKEND).
    """
    return _catalogue(part).entry(name)


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
    return _catalogue(part).availability(name, store, model)


def choose(
    part: Part,
    backend: str,
    model: str,
    store: WeightStore,
    device: str = "auto",
    failed: Mapping[tuple[str, str], str] = NO_FAULTS,
    language_model: Endpoint | None = None,
    order: Order = OWN_ORDER,
    language: str = "",
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
        order: what `auto` tries.
        language: that the model must know; empty: any.

    Raises:
        InvalidInputError: there is no such backend or model (reason UNKNOWN_BACKEND, UNKNOWN_MODEL), or the model does
            not know the language (LANGUAGE_NOT_SUPPORTED).
        WeightsMissingError: it cannot be had; the message says how to get it.
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
    version = choice.entry.version + (f"; {choice.model.name}" if choice.model.name else "")
    return Chosen(choice.entry.name, choice.model.name, version, choice.substitution)


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
    catalogue = _catalogue(part)
    known = catalogue.entry(name)
    # The name of a language model is the operator's own.
    own_model = "" if known.asks_language_model else model
    found = catalogue.availability(name, store, own_model)
    if not found.available:
        raise WeightsMissingError(found.reason, backend=name, part=part)
    if weights := catalogue.model(known, own_model).weights or known.weights:
        store.fetch(weights, progress)
    module = importlib.import_module(f"{__package__}.{part}.{known.module}")
    return cast(Loader, module.load)(store, model, device)


def check_order(order: Order) -> None:
    """Checks what `auto` shall try.

    Raises:
        ValueError: a name is not that of a backend of its part, or of a model of that backend.
    """
    for part, preferences in order.items():
        _catalogue(part, preferences).check_order()


def weights(name: str) -> Weights:
    """The weights of what can be fetched: `BACKEND`, or `BACKEND/MODEL`.

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
    module = importlib.import_module(f"{__package__}.{part}.entries")
    entries: Sequence[BackendEntry] = module.ENTRIES
    if language_model:
        chosen = (Model(language_model.model),)
        entries = [replace(entry, models=chosen) if entry.asks_language_model else entry for entry in entries]
    return Catalogue(f"backend for {part}", entries, order or getattr(module, "AUTO", ()), "UNKNOWN_BACKEND")


__all__ = ["AUTO", "Chosen", "Order", "availability", "check_order", "choose", "entry", "load", "names", "weights"]
