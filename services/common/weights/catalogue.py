"""Lists the choices for a task, finds those that can be used here, and resolves `auto`.

A catalogue has entries: separation models, or the backends of one part of the analysis. An entry with several sets of
weights lists them as its models, chosen as `entry/model`. `auto` tries preferences in order, best first. Only `auto`
ever leads to a substitute. Nothing here loads a model.
"""

import importlib.util
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Generic, Literal, TypeVar

from services.common.errors import InvalidInputError, WeightsMissingError
from services.common.weights.store import Availability, Weights, WeightStore

AUTO = "auto"
NO_FAULTS: Mapping[tuple[str, str], str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Model:
    """One of several sets of weights that an entry can use.

    Args:
        name: unique within the entry.
        weights: its files; None: there is nothing to fetch.
        languages: codes of supported languages; empty: the model does not depend on the language.
    """

    name: str
    weights: Weights | None = None
    languages: tuple[str, ...] = ()


NO_MODEL = Model("")
"""The model of an entry that has no models to choose from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A choice, described without loading it.

    Args:
        name: unique within its catalogue.
        licence: of code and weights, in one line.
        version: changes whenever the same audio may give another result; part of cache keys.
        cost: computing time, in a unit that the catalogue's owner defines.
        weights: files to find or fetch; None: they come with `packages`, or there are none.
        packages: required Python packages as (importable module, distribution).
        models: sets of weights to choose from, if there are several.
        fault: why it can never be used, such as a damaged file of the user; empty if it can.
    """

    name: str
    licence: str
    version: str
    cost: float
    weights: Weights | None = None
    packages: tuple[tuple[str, str], ...] = ()
    models: tuple[Model, ...] = ()
    fault: str = ""

    def weights_of(self, model: Model) -> Weights | None:
        """The files of one of its models, with the licence; `NO_MODEL` if it has none to choose from."""
        weights = model.weights or self.weights
        return replace(weights, licence=self.licence) if weights else None

    def made_by(self, model: Model) -> dict[str, str]:
        """The provenance of results of one of its models; `NO_MODEL` if it has none to choose from."""
        version = f"{self.version}; {model.name}" if model.name else self.version
        return {"backend": self.name, "model": model.name, "version": version}


E = TypeVar("E", bound=Entry)


@dataclass(frozen=True, slots=True)
class Choice(Generic[E]):
    """The choice for a request.

    Args:
        entry: the chosen entry.
        model: of the entry; `NO_MODEL` if there are none to choose from.
        substitution: why `auto` did not use its first choice, as a sentence; empty if it did.
    """

    entry: E
    model: Model = NO_MODEL
    substitution: str = ""

    @property
    def made_by(self) -> dict[str, str]:
        """The fields of `stemtube.common.v1.Provenance`."""
        return {**self.entry.made_by(self.model), "substitution": self.substitution}


@dataclass(frozen=True, slots=True)
class Preference:
    """One place in the order of `auto`: an entry, optionally one of its models, and the device it is meant for.

    Written as `NAME`, `NAME/MODEL`, `NAME@gpu` or `NAME/MODEL@cpu`.
    """

    entry: str
    model: str = ""
    device: Literal["", "cpu", "gpu"] = ""

    @classmethod
    def parse(cls, text: str) -> "Preference":
        """Parses a preference.

        Raises:
            ValueError: it names no entry, or another device than cpu or gpu.
        """
        name, at, device = text.strip().partition("@")
        entry, _, model = name.partition("/")
        if entry and not at:
            return cls(entry, model)
        if entry and device == "cpu":
            return cls(entry, model, "cpu")
        if entry and device == "gpu":
            return cls(entry, model, "gpu")
        raise ValueError(f"{text!r} is not NAME, NAME/MODEL, or one of these followed by @cpu or @gpu")


def parse_order(text: str) -> tuple[str, ...]:
    """Splits a setting into preferences at the commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


class Catalogue(Generic[E]):
    """Entries of one kind.

    Args:
        noun: the kind of entries, for messages: "separation model", "backend for chords".
        entries: all entries, in the order in which they are shown.
        order: the preferences of `auto`, best first, in the form of `Preference`; empty: the order of `entries`.
        unknown: reason of the error for an unknown name.
    """

    def __init__(
        self, noun: str, entries: Sequence[E], order: Sequence[str] = (), unknown: str = "UNKNOWN_MODEL"
    ) -> None:
        self._noun = noun
        self._entries = {entry.name: entry for entry in entries}
        self._order = [Preference.parse(text) for text in order] or [Preference(name) for name in self._entries]
        self._unknown = unknown

    def names(self) -> list[str]:
        """The names of all entries."""
        return list(self._entries)

    def entry(self, name: str) -> E:
        """One entry.

        Raises:
            InvalidInputError: no entry has this name (the reason is `unknown`).
        """
        if name not in self._entries:
            known = ", ".join([AUTO, *self._entries])
            raise InvalidInputError(f"there is no {self._noun} {name!r}; choose one of {known}", self._unknown)
        return self._entries[name]

    def model(self, entry: E, name: str) -> Model:
        """One of an entry's models; `NO_MODEL` for an empty name.

        Raises:
            InvalidInputError: the entry has no model of this name (reason UNKNOWN_MODEL).
        """
        if not name:
            return NO_MODEL
        if not entry.models:
            raise InvalidInputError(f"{entry.name} has no models to choose from", "UNKNOWN_MODEL")
        for model in entry.models:
            if model.name == name:
                return model
        known = ", ".join([AUTO, *(model.name for model in entry.models)])
        raise InvalidInputError(f"{entry.name} has no model {name!r}; choose one of {known}", "UNKNOWN_MODEL")

    def availability(self, name: str, store: WeightStore, model: str = "") -> Availability:
        """Whether an entry can be used now, and why (not). May ask a hub, so do not call it on an event loop.

        Args:
            name: of the entry, not `auto`.
            store: of the weights.
            model: one of its models; empty: any of them.

        Raises:
            InvalidInputError: there is no such entry or model.
        """
        entry = self.entry(name)
        if entry.fault:
            return Availability(False, entry.fault)
        for module, distribution in entry.packages:
            if importlib.util.find_spec(module) is None:
                return Availability(
                    False, f"{name} needs the Python package {distribution}: pip install {distribution}"
                )
        chosen = self.model(entry, model)
        if entry.models and not model:
            found = [_stored(each.weights, entry, store) for each in entry.models]
            return next((answer for answer in found if answer.available), found[0])
        return _stored(chosen.weights or entry.weights, entry, store)

    def choose(
        self,
        name: str,
        store: WeightStore,
        *,
        model: str = AUTO,
        has_gpu: bool = False,
        skipped: Collection[str] = (),
        failed: Mapping[tuple[str, str], str] = NO_FAULTS,
    ) -> Choice[E]:
        """Resolves a user's choice of entry and model, names or `auto`. May ask a hub.

        Args:
            name: of an entry, or `auto`.
            store: of the weights.
            model: of the entry, or `auto`.
            has_gpu: whether the worker has a GPU; the order of `auto` may depend on it.
            skipped: entries that `auto` leaves out without a message.
            failed: (entry, model) that could not be used although they seemed available, and why.

        Raises:
            InvalidInputError: there is no such entry or model.
            WeightsMissingError: the choice is not available; the message says how to get it.
        """
        faults: list[str] = []
        first: Choice[E] | None = None
        for candidate in self._candidates(name, model, has_gpu, skipped):
            first = first or candidate
            place = (candidate.entry.name, candidate.model.name)
            fault = failed.get(place) or self._fault(*place, store)
            if not fault:
                why = f"{label(candidate)} is used in place of {label(first)}: {'; '.join(faults)}" if faults else ""
                return Choice(candidate.entry, candidate.model, why)
            faults.append(fault)
        raise WeightsMissingError("; ".join(faults), choice=name)

    def check_order(self) -> None:
        """Checks that every name in the order of `auto` exists.

        Raises:
            ValueError: one does not.
        """
        try:
            for place in self._order:
                self.model(self.entry(place.entry), place.model)
        except InvalidInputError as error:
            raise ValueError(error.message) from error

    def weights_named(self, name: str) -> Weights | None:
        """The weights for a name `ENTRY` or `ENTRY/MODEL`; None if this catalogue has no such name."""
        entry_name, _, model_name = name.partition("/")
        entry = self._entries.get(entry_name)
        if entry is None:
            return None
        models = [NO_MODEL, *entry.models]
        return next((entry.weights_of(model) for model in models if model.name == model_name), None)

    def fetchable(self) -> list[str]:
        """All names that `weights_named` accepts."""
        with_models = [f"{entry.name}/{model.name}" for entry in self._entries.values() for model in entry.models]
        return [entry.name for entry in self._entries.values() if entry.weights] + with_models

    def _fault(self, name: str, model: str, store: WeightStore) -> str:
        found = self.availability(name, store, model)
        return "" if found.available else found.reason

    def _candidates(self, name: str, model: str, has_gpu: bool, skipped: Collection[str]) -> Iterator[Choice[E]]:
        """The candidates, best first."""
        if name != AUTO:
            self.entry(name)
        device = "gpu" if has_gpu else "cpu"
        places = [place for place in self._order if place.device in ("", device)]
        if name != AUTO:
            places = [place for place in places if place.entry == name] or [Preference(name)]
        elif skipped:
            places = [place for place in places if place.entry not in skipped]
        if model != AUTO:
            places = [Preference(entry, model) for entry in dict.fromkeys(place.entry for place in places)]
        for place in places:
            entry = self.entry(place.entry)
            named = [self.model(entry, place.model)] if place.model else list(entry.models)
            yield from (Choice(entry, each) for each in named or [NO_MODEL])


def label(choice: Choice[E]) -> str:
    """The name of a choice in messages."""
    note = "(knows English alone)" if choice.model.languages == ("en",) else ""
    return " ".join(filter(None, (choice.entry.name, choice.model.name, note)))


def check_language(name: str, languages: Sequence[str], language: str) -> None:
    """Checks that a model supports a language.

    Args:
        name: of the model, for the message.
        languages: supported languages; empty: the model does not depend on the language.
        language: the wanted one; empty: any.

    Raises:
        InvalidInputError: it does not (reason LANGUAGE_NOT_SUPPORTED).
    """
    if not language or not languages or language in languages:
        return
    is_english = tuple(languages) == ("en",)
    known = "knows English only" if is_english else f"does not know {language!r}"
    advice = f"choose another model for {language!r}" if is_english else "leave the language open"
    raise InvalidInputError(
        f"the model {name} {known}; {advice}", "LANGUAGE_NOT_SUPPORTED", model=name, language=language
    )


def _stored(weights: Weights | None, entry: Entry, store: WeightStore) -> Availability:
    if weights:
        return store.availability(weights)
    shipped = f"its weights come with the Python package {entry.packages[0][1]}" if entry.packages else "it needs none"
    return Availability(True, shipped, present=True)
