"""Choices among entries and their models: by name, by `auto`, with and without a GPU, and with substitutes."""

from pathlib import Path

import pytest

from services.common.errors import InvalidInputError, WeightsMissingError
from services.common.weights.catalogue import Catalogue, Entry, Model, Preference, parse_order
from services.common.weights.store import WeightFile, Weights, WeightStore


def weights(name: str) -> Weights:
    return Weights(name, (WeightFile(f"{name}.bin"),))


def entry(name: str, *models: str, stored: bool = True) -> Entry:
    named = tuple(Model(model, weights(model)) for model in models)
    own = None if models or not stored else weights(name)
    return Entry(name=name, licence="MIT", version=f"{name}-1", cost=1.0, weights=own, models=named)


@pytest.fixture
def store(tmp_path: Path) -> WeightStore:
    return WeightStore(tmp_path, offline=True)


def put(store: WeightStore, *names: str) -> None:
    for name in names:
        (store.root / f"{name}.bin").write_bytes(b"weights")


def chosen(catalogue: Catalogue[Entry], store: WeightStore, name: str = "auto", **options: object) -> tuple[str, str]:
    choice = catalogue.choose(name, store, **options)  # type: ignore[arg-type]
    return choice.entry.name, choice.model.name


def test_auto_takes_the_first_available_choice_and_says_why(store: WeightStore) -> None:
    catalogue = Catalogue("model", [entry("small"), entry("best"), entry("good")], ["best", "good", "small"])
    put(store, "good", "small")
    choice = catalogue.choose("auto", store)
    assert choice.entry.name == "good"
    assert choice.substitution.startswith("good is used in place of best: best.bin of the model best is not here")
    put(store, "best")
    assert catalogue.choose("auto", store).substitution == ""


def test_without_an_order_auto_follows_the_list(store: WeightStore) -> None:
    put(store, "a", "b")
    assert chosen(Catalogue("model", [entry("b"), entry("a")]), store) == ("b", "")


def test_the_order_depends_on_the_device(store: WeightStore) -> None:
    catalogue = Catalogue("backend", [entry("w", "tiny", "mid", "big")], ["w/big@gpu", "w/mid@cpu", "w/tiny"])
    put(store, "tiny", "mid", "big")
    assert chosen(catalogue, store, has_gpu=True) == ("w", "big")
    assert chosen(catalogue, store, has_gpu=False) == ("w", "mid")
    (store.root / "big.bin").unlink()
    assert chosen(catalogue, store, has_gpu=True) == ("w", "tiny")
    assert chosen(catalogue, store, "w", model="mid", has_gpu=True) == ("w", "mid")


def test_a_choice_by_name_is_never_replaced(store: WeightStore) -> None:
    catalogue = Catalogue("backend", [entry("w", "tiny", "big"), entry("other")], ["w/big", "w/tiny", "other"])
    put(store, "tiny", "other")
    with pytest.raises(WeightsMissingError, match="big is not here"):
        catalogue.choose("w", store, model="big")
    assert chosen(catalogue, store, "w") == ("w", "tiny")
    assert chosen(catalogue, store, "other") == ("other", "")


def test_failed_and_skipped_entries_are_passed_over(store: WeightStore) -> None:
    catalogue = Catalogue("backend", [entry("a"), entry("b"), entry("c")])
    put(store, "a", "b", "c")
    choice = catalogue.choose("auto", store, failed={("b", ""): "it fell over"}, skipped=["a"])
    assert (choice.entry.name, choice.substitution) == ("c", "c is used in place of b: it fell over")
    assert chosen(catalogue, store, "a", skipped=["a"]) == ("a", "")


def test_a_missing_package_is_named(store: WeightStore) -> None:
    lacking = Entry(name="a", licence="MIT", version="1", cost=1.0, packages=(("nonesuch_module", "none-such"),))
    with pytest.raises(WeightsMissingError, match="a needs the Python package none-such: pip install none-such"):
        Catalogue("model", [lacking]).choose("a", store)


def test_an_entry_with_a_fault_is_never_used(store: WeightStore) -> None:
    broken = Entry(name="a", licence="MIT", version="1", cost=1.0, fault="its file is damaged")
    with pytest.raises(WeightsMissingError, match="its file is damaged"):
        Catalogue("model", [broken]).choose("auto", store)


@pytest.mark.parametrize(
    ("name", "model", "message"),
    [
        ("nonesuch", "auto", "no backend 'nonesuch'; choose one of auto, w, other"),
        ("w", "nonesuch", "w has no model 'nonesuch'; choose one of auto, tiny"),
        ("other", "tiny", "other has no models to choose from"),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(
    store: WeightStore, name: str, model: str, message: str
) -> None:
    catalogue = Catalogue("backend", [entry("w", "tiny"), entry("other", stored=False)])
    with pytest.raises(InvalidInputError, match=message) as refused:
        catalogue.choose(name, store, model=model)
    assert refused.value.reason == "UNKNOWN_MODEL"


def test_weights_are_found_by_the_names_that_are_listed() -> None:
    catalogue = Catalogue("backend", [entry("w", "tiny", "big"), entry("a"), entry("b", stored=False)])
    assert catalogue.fetchable() == ["a", "w/tiny", "w/big"]
    found = [catalogue.weights_named(name) for name in ("a", "w/tiny", "w/big")]
    assert [each and each.name for each in found] == ["a", "tiny", "big"]
    assert [catalogue.weights_named(name) for name in ("w", "w/none", "b", "none")] == [None] * 4


def test_an_order_as_a_setting() -> None:
    assert parse_order(" a, b/big@gpu ,,c@cpu") == ("a", "b/big@gpu", "c@cpu")
    assert Preference.parse("b/big@gpu") == Preference("b", "big", "gpu")
    for wrong in ("", "@gpu", "a@tpu"):
        with pytest.raises(ValueError, match="NAME"):
            Preference.parse(wrong)
    Catalogue("model", [entry("w", "tiny")], ["w/tiny"]).check_order()
    for order in (["nonesuch"], ["w/nonesuch"]):
        with pytest.raises(ValueError, match="nonesuch"):
            Catalogue("model", [entry("w", "tiny")], order).check_order()
