"""The catalogue of published models, and those that operators add: fetched, verified, and subject to licences."""

import hashlib
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.common.errors import PreconditionError, WeightsMissingError
from services.common.weights.store import WeightStore
from services.separation.models import registry
from services.separation.models.base import Options, join
from services.separation.models.folders.published import published
from tests.separation.roformers import BS, CHUNK, config_text, in_torch, write_folder

ENTRY = """
[[model]]
name = "{name}"
family = "roformer"
purpose = "vocals"
author = "somebody"
stems = ["vocals", "instrumental"]
licence = "{licence}"
licence_source = "its page"
sdr = "not stated"
sdr_source = ""
cost = 2
overlap = 0.75

[[model.file]]
url = "{hub}/config.yaml"

[[model.file]]
url = "{hub}/model.ckpt"
sha256 = "{digest}"
"""


@pytest.fixture(autouse=True)
def _in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    in_torch(monkeypatch)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A web server with a model's files; gives their folder and the address."""
    folder = write_folder(tmp_path / "hub", "model", BS)
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def write_catalogue(models: Path, hub: tuple[Path, str], *, licence: str = "MIT", name: str = "theirs") -> WeightStore:
    folder, address = hub
    digest = hashlib.sha256((folder / "model.ckpt").read_bytes()).hexdigest()
    text = ENTRY.format(name=name, licence=licence, hub=address, digest=digest)
    (models / "separation").mkdir(parents=True, exist_ok=True)
    (models / "separation/catalogue.toml").write_text(text)
    return WeightStore(models, hub_timeout=2)


def test_the_catalogue_names_licence_source_and_digest_of_every_model() -> None:
    page = (Path(__file__).parents[2] / "docs/models.md").read_text()
    for entry in published():
        assert entry.fault == ""
        assert f"`{entry.name}`" in page
        assert entry.weights is not None
        *configs, checkpoint = entry.weights.files
        assert len(configs) == (entry.family != "mdx_net")
        assert all(file.path.startswith(f"separation/{entry.name}/") for file in entry.weights.files)
        assert checkpoint.checksum is not None
        assert len(checkpoint.checksum) == len("sha256:") + 64
        assert entry.rank is None  # none is tried by `auto` unless an operator lists it
    free = [entry.name for entry in published() if not entry.restriction]
    assert free == ["kim_vocals", "anvuew_dereverb", "scnet_4stems", "scnet_large_4stems"]


def test_a_model_of_an_operators_catalogue_is_fetched_when_it_is_used(tmp_path: Path, hub: tuple[Path, str]) -> None:
    models = write_catalogue(tmp_path / "models", hub)
    entry = registry.entry("theirs", models)
    assert (entry.stems, entry.overlap, entry.cost) == (("vocals", "instrumental"), 0.75, 2.0)
    assert entry.licence == "MIT (somebody; its page)"
    answer = registry.availability("theirs", models)
    assert answer.available
    assert not answer.present
    separator = registry.load("theirs", models)
    mix = np.random.default_rng(0).normal(0, 0.1, (2, CHUNK)).astype("f4")
    stems = join(separator.separate(mix, Options(), lambda _: None), separator.stems)
    np.testing.assert_allclose(stems["vocals"] + stems["instrumental"], mix, atol=1e-6)
    assert registry.availability("theirs", models).present
    assert registry.names(models).count("theirs") == 1


def test_a_file_without_digest_must_stay_the_one_that_was_fetched_first(tmp_path: Path, hub: tuple[Path, str]) -> None:
    models = write_catalogue(tmp_path / "models", hub)
    registry.load("theirs", models)
    memory = tmp_path / "models/separation/first_downloads.json"
    assert list(json.loads(memory.read_text())) == ["separation/theirs/config.yaml"]
    # The publisher changes it, and it is fetched again.
    (hub[0] / "config.yaml").write_text(config_text(BS, num_overlap=8))
    (tmp_path / "models/separation/theirs/config.yaml").unlink()
    for _ in range(2):
        with pytest.raises(WeightsMissingError, match=r"config.yaml of the model theirs is another file than when"):
            registry.load("theirs", models)
    memory.unlink()
    assert registry.load("theirs", models).stems == ("vocals", "instrumental")


def test_a_checkpoint_with_another_digest_is_refused(tmp_path: Path, hub: tuple[Path, str]) -> None:
    models = write_catalogue(tmp_path / "models", hub)
    (hub[0] / "model.ckpt").write_bytes(b"another one")
    with pytest.raises(WeightsMissingError, match="does not match its checksum sha256:"):
        registry.load("theirs", models)


def test_a_model_with_other_stems_than_listed_is_refused(tmp_path: Path, hub: tuple[Path, str]) -> None:
    models = write_catalogue(tmp_path / "models", hub)
    path = tmp_path / "models/separation/catalogue.toml"
    path.write_text(path.read_text().replace('["vocals", "instrumental"]', '["drums", "bass", "other", "vocals"]'))
    with pytest.raises(PreconditionError, match="of a network with the stems vocals, instrumental"):
        registry.load("theirs", models)
    path.write_text(path.read_text().replace('["drums", "bass", "other", "vocals"]', '["instrumental", "vocals"]'))
    assert registry.load("theirs", models).stems == ("vocals", "instrumental")  # the network's order
    path.write_text(path.read_text().replace('["instrumental", "vocals"]', '["lead", "backing"]'))
    assert registry.load("theirs", models).stems == ("lead", "backing")


def test_auto_takes_only_licences_that_allow_every_use_or_that_the_operator_permits(
    tmp_path: Path, hub: tuple[Path, str]
) -> None:
    order = ["theirs", "spleeter_2stems"]
    free = write_catalogue(tmp_path / "models", hub)
    assert registry.choose("auto", free, order).entry.name == "theirs"
    restricted = write_catalogue(tmp_path / "models", hub, licence="CC-BY-NC-SA-4.0")
    choice = registry.choose("auto", restricted, order)
    assert choice.entry.name == "spleeter_2stems"
    assert "its licence is 'CC-BY-NC-SA-4.0'" in choice.substitution
    assert "STEMTUBE_SEPARATION__LICENCES" in choice.substitution
    assert registry.choose("theirs", restricted, order).entry.name == "theirs"  # by name
    permitted = ["not stated", "CC-BY-NC-SA-4.0"]
    assert registry.choose("auto", restricted, order, permitted).entry.name == "theirs"


VALID = ENTRY.format(name="theirs", licence="MIT", hub="https://hub.example", digest="0" * 64)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("model = 3", r"it must be a list of \[\[model\]\] and nothing else"),
        ("[[model]", "it is not valid TOML"),
        (f"{VALID}{VALID}", "theirs is listed twice"),
        (VALID.replace("theirs", "htdemucs"), "htdemucs: there are models of this name already"),
        (VALID.replace("theirs", "kim_vocals"), "kim_vocals: there are models of this name already"),
        (VALID.replace('purpose = "vocals"', ""), "model 1 has no purpose"),
        (VALID.replace("purpose", "use"), "model 1 has unknown keys: use"),
        (VALID.replace('"somebody"', "3"), "model 1: author must be a text"),
        (VALID.replace('"theirs"', '"../up"'), "model 1: the name '../up' may have letters"),
        (VALID.replace('["vocals", "instrumental"]', "[]"), "theirs: stems must be a list of names"),
        (VALID.replace("cost = 2", "cost = -1"), "theirs: cost must be a number above 0"),
        (VALID.replace("0.75", "1.0"), "theirs: overlap must be a number from 0 to 1, without 1"),
        (VALID.replace("https://hub.example/config.yaml", "file:///config.yaml"), "is not the address of a file"),
        (VALID.replace("0" * 64, "xyz"), "theirs: not a checksum: sha256:xyz"),
        (VALID.replace("model.ckpt", "model.zip"), "theirs: its files must be a configuration"),
    ],
)
def test_a_faulty_catalogue_is_listed_with_its_fault(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "separation").mkdir()
    (tmp_path / "separation/catalogue.toml").write_text(text)
    models = WeightStore(tmp_path, offline=True)
    assert set(registry.names(models)) - set(registry.names()) == {"catalogue.toml"}
    answer = registry.availability("catalogue.toml", models)
    assert not answer.available
    with pytest.raises(WeightsMissingError, match=fault):
        registry.choose("catalogue.toml", models)
    assert registry.choose("auto", models).entry.name == "spleeter_2stems"


def test_a_model_of_an_unknown_family_is_listed_with_this_fault(tmp_path: Path) -> None:
    (tmp_path / "separation").mkdir()
    (tmp_path / "separation/catalogue.toml").write_text(VALID.replace('"roformer"', '"perceptron"'))
    models = WeightStore(tmp_path, offline=True)
    assert registry.availability("theirs", models).reason == "there is no family of models 'perceptron' here"


def test_the_facts_of_the_catalogue_are_complete() -> None:
    import tomllib

    text = (Path(registry.__file__).parent / "catalogue.toml").read_text()
    facts: list[dict[str, Any]] = tomllib.loads(text)["model"]
    purposes = {fact["purpose"].split(":")[0].split(",")[0] for fact in facts}
    assert {
        "vocals",
        "instrumental",
        "four stems",
        "six stems",
        "karaoke",
        "de-reverb",
        "de-noise",
        "drum kit",
        "crowd",
    } <= purposes
    assert all(fact["licence_source"] and (fact["sdr"] == "not stated") == (fact["sdr_source"] == "") for fact in facts)
