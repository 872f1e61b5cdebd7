"""The separation models that can be chosen here, found in the `entries` module of each family's folder.

A family's `entries` has a function `entries()` that gives its published models, and may have `own(root)`, which gives
those that a user has put into the models directory. Importing this module loads no network.
"""

import importlib
import importlib.util
import pkgutil
from collections.abc import Iterable, Iterator, Sequence
from types import ModuleType
from typing import cast

from services.common.errors import WeightsMissingError
from services.common.weights.catalogue import AUTO, Catalogue, Choice
from services.common.weights.store import Availability, Weights, WeightStore
from services.separation import models
from services.separation.models.base import CPU, Hardware, ModelEntry, Progress, Separator

CONVERTED = "converted"
"""Folder of the models directory for networks that were converted for this machine."""


def names(store: WeightStore | None = None) -> list[str]:
    """All models that can be asked for: the published ones, then the user's own in the models directory."""
    return _catalogue(store).names()


def entry(name: str, store: WeightStore | None = None) -> ModelEntry:
    """The facts about a model before it is loaded.

    Raises:
        InvalidInputError: there is no such model (reason UNKNOWN_MODEL).
    """
    return _catalogue(store).entry(name)


def weights(name: str, store: WeightStore) -> Weights:
    """The files of a model.

    Raises:
        InvalidInputError: there is no such model (reason UNKNOWN_MODEL).
    """
    return entry(name, store).weights or Weights(name, ())


def availability(name: str, store: WeightStore) -> Availability:
    """Whether a model can be used now, and why (not). Loads nothing; may ask a hub (see `WeightStore.availability`)."""
    return _catalogue(store).availability(name, store)


def choose(name: str, store: WeightStore, order: Sequence[str] = ()) -> Choice[ModelEntry]:
    """The model to use for a user's choice, a name or `auto`. Only `auto` ever leads to a substitute.

    Args:
        name: of a model, or `auto`.
        store: where weights are found.
        order: the order of `auto`, best first; empty: by the models' ranks.

    Raises:
        InvalidInputError: there is no such model (reason UNKNOWN_MODEL).
        WeightsMissingError: the model, or with `auto` any, is not available; the message says how to get it.
    """
    return _catalogue(store, order).choose(name, store)


def check_order(order: Sequence[str]) -> None:
    """Checks an order of `auto`.

    Raises:
        ValueError: a name is not that of a published model.
    """
    _catalogue(None, order).check_order()


def load(name: str, store: WeightStore, progress: Progress = lambda _: None, hardware: Hardware = CPU) -> Separator:
    """Fetches a model's weights if need be and loads it.

    Args:
        name: a model's name, not `auto`.
        store: where weights are found.
        progress: called with the fraction fetched, in [0, 1]; an exception from it stops the download.
        hardware: the hardware to run on.

    Raises:
        InvalidInputError: there is no such model (reason UNKNOWN_MODEL).
        WeightsMissingError: its weights, or a Python package that it needs, are not available.
        PreconditionError: its files cannot be used.
    """
    catalogue = _catalogue(store)
    model = catalogue.entry(name)
    usable = catalogue.availability(name, store)
    if not usable.available:
        raise WeightsMissingError(usable.reason, model=name)
    paths = store.fetch(model.weights, progress) if model.weights else ()
    family = importlib.import_module(f"{__package__}.{model.family}.separator")
    return cast(Separator, family.load(model, paths, hardware))


def _catalogue(store: WeightStore | None, order: Sequence[str] = ()) -> Catalogue[ModelEntry]:
    families = list(_families())
    published = {model.name: model for family in families for model in family.entries()}
    own: dict[str, ModelEntry] = {}
    for family in families:
        if store and hasattr(family, "own"):
            own |= family.own(store.root)
    # A user's model cannot take the name of a published one.
    every = published | {name: model for name, model in own.items() if name not in published}
    return Catalogue("separation model", list(every.values()), order or _order(every.values()))


def _order(entries: Iterable[ModelEntry]) -> list[str]:
    """The order of `auto` by the entries' ranks."""
    ranks = {entry.name: entry.rank for entry in entries if entry.rank is not None}
    return sorted(ranks, key=ranks.__getitem__)


def _families() -> Iterator[ModuleType]:
    for folder in sorted(module.name for module in pkgutil.iter_modules(models.__path__) if module.ispkg):
        if importlib.util.find_spec(f"{__package__}.{folder}.entries"):
            yield importlib.import_module(f"{__package__}.{folder}.entries")


__all__ = ["AUTO", "availability", "check_order", "choose", "entry", "load", "names", "weights"]
