"""The separation models that can be chosen, from the `entries` module of each family's folder.

A family's `entries` module may have these functions:

- `entries()` returns its published models;
- `describe(folder)` says whether it can load the configuration and the checkpoint that a user has put into a folder of
  `MODELS_DIR/separation` (`folders/folder.py`);
- `own(root)` returns other models that a user has put into the models directory.

The catalogue (`catalogue.toml`) lists published models of all families that can be fetched.

Importing this module loads no network.
"""

import importlib
import importlib.util
import pkgutil
from collections.abc import Iterable, Iterator, Sequence
from types import ModuleType
from typing import cast

from services.common.errors import WeightsMissingError
from services.common.weights.catalogue import AUTO, NO_MODEL, Catalogue, Choice
from services.common.weights.store import Availability, Weights, WeightStore
from services.separation import models
from services.separation.models.base import CPU, Hardware, ModelEntry, Progress, Separator
from services.separation.models.folders.first_downloads import check_first_downloads
from services.separation.models.folders.folder import FolderModels
from services.separation.models.folders.published import own_catalogue, published

CONVERTED = "converted"
"""The folder for networks that were converted for this machine, in the models directory."""


def names(store: WeightStore | None = None) -> list[str]:
    """Names of all models: the published ones, then the user's own in the models directory."""
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
    return entry(name, store).weights_of(NO_MODEL) or Weights(name, ())


def availability(name: str, store: WeightStore) -> Availability:
    """Whether a model can be used now, and why not. Loads nothing; may ask a hub (see `WeightStore.availability`)."""
    return _catalogue(store).availability(name, store)


def choose(
    name: str, store: WeightStore, order: Sequence[str] = (), licences: Sequence[str] = ()
) -> Choice[ModelEntry]:
    """Chooses the model for a user's choice. Only `auto` may choose a substitute.

    Args:
        name: name of a model, or `auto`.
        store: the store of weights.
        order: the order of `auto`, best first; empty: by the models' ranks.
        licences: licences that `auto` may take beside those that allow every use.

    Raises:
        InvalidInputError: there is no such model (reason UNKNOWN_MODEL).
        WeightsMissingError: the model is not available, or with `auto` no model is; the message says how to get it.
    """
    catalogue = _catalogue(store, order)
    refused: dict[tuple[str, str], str] = {}
    for each in map(catalogue.entry, catalogue.names() if name == AUTO else ()):
        if each.restriction and each.restriction not in licences:
            refused[each.name, ""] = (
                f"auto does not take {each.name}, because its licence is {each.restriction!r}: choose it by name, or "
                "list the licence in STEMTUBE_SEPARATION__LICENCES"
            )
    return catalogue.choose(name, store, failed=refused)


def check_order(order: Sequence[str]) -> None:
    """Checks an order of `auto`.

    Raises:
        ValueError: a name in it is not the name of a published model.
    """
    _catalogue(None, order).check_order()


def load(name: str, store: WeightStore, progress: Progress = lambda _: None, hardware: Hardware = CPU) -> Separator:
    """Loads a model, and fetches its weights first if necessary.

    Args:
        name: a model's name, not `auto`.
        store: the store of weights.
        progress: called with the fraction fetched, in [0, 1]. It raises an exception to stop the download.
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
    files = model.weights_of(NO_MODEL)
    paths = store.fetch(files, progress) if files else ()
    if files:
        check_first_downloads(store.root, files, paths)
    family = importlib.import_module(f"{__package__}.{model.family}.separator")
    return cast(Separator, family.load(model, paths, hardware))


def _catalogue(store: WeightStore | None, order: Sequence[str] = ()) -> Catalogue[ModelEntry]:
    families = list(_families())
    models_of_families = [model for family in families if hasattr(family, "entries") for model in family.entries()]
    known = {model.name: model for model in (*models_of_families, *published())}
    own: dict[str, ModelEntry] = {}
    if store:
        listed = {model.name: model for model in own_catalogue(store.root, known)}
        for family in families:
            own |= family.own(store.root) if hasattr(family, "own") else {}
        describers = [family.describe for family in families if hasattr(family, "describe")]
        own |= {model.name: model for model in FolderModels(store.root, describers).entries(known | listed)}
        own |= listed
    # A user's model cannot take the name of a published one.
    every = known | {name: model for name, model in own.items() if name not in known}
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
