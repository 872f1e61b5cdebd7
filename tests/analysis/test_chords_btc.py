"""BTC: the numbers of the published code, and weights fetched over HTTP."""

import hashlib
import json
import threading
import zlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

import mir_eval
import numpy as np
import pytest
import torch

from services.analysis.backends import registry
from services.analysis.backends.base import Context
from services.analysis.backends.chords import btc, btc_weights, entries
from services.analysis.backends.chords.btc import BtcChords
from services.analysis.backends.chords.btc_network import BtcNetwork
from services.common.errors import WeightsMissingError
from services.common.samples import Audio
from services.common.weights.store import WeightFile, Weights, WeightStore
from tests.analysis.conftest import Excerpt

DATA = Path(__file__).parent / "data"


def made_up_weights() -> dict[str, torch.Tensor]:
    """Weights for each key of the published state dict: those that the golden file was computed with."""
    weights = {}
    for key, shape in json.loads((DATA / "btc_state_dict_shapes.json").read_text()).items():
        values = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape).astype(np.float32)
        weights[key] = torch.from_numpy(values * np.float32(0.08) + np.float32(key.endswith("gamma")))
    return weights


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hub") / "btc_model_large_voca.pt"
    torch.save({"model": made_up_weights(), "mean": np.float64(-5.0), "std": np.float64(2.5)}, path)
    return path


@pytest.fixture
def served(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Weights]:
    """A web server with the checkpoint, in place of the published one."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(checkpoint.parent))
    content = checkpoint.read_bytes()
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/{checkpoint.name}"
        file = WeightFile(f"btc/{checkpoint.name}", url, f"git-blob-sha1:{blob}")
        weights = Weights("btc", (file,))
        monkeypatch.setattr(btc_weights, "LARGE_VOCABULARY", weights)
        here = tuple(replace(one, weights=weights) if one.name == "btc" else one for one in entries.ENTRIES)
        monkeypatch.setattr(entries, "ENTRIES", here)
        yield weights
        server.shutdown()


def test_the_network_has_the_keys_and_gives_the_numbers_of_the_published_code() -> None:
    weights = {key: value for key, value in made_up_weights().items() if not key.startswith("output_layer.lstm.")}
    network = BtcNetwork()
    network.load_state_dict(weights)
    golden = np.load(DATA / "btc_golden.npz")
    with torch.inference_mode():
        found = network(torch.from_numpy(golden["x"])).numpy()
    np.testing.assert_allclose(found, golden["logits"], atol=1e-4)


def test_weights_are_fetched_verified_and_used(served: Weights, tmp_path: Path, excerpt: Excerpt) -> None:
    store = WeightStore(tmp_path)
    assert registry.availability("chords", "btc", store).available
    backend = cast(BtcChords, registry.load("chords", "btc", store))
    assert registry.availability("chords", "btc", WeightStore(tmp_path, offline=True)).present
    audio = excerpt(12)
    seen: list[float] = []
    found = backend.analyze(audio, Context(), seen.append)
    assert (found.chords[0].start, found.chords[-1].end) == (0.0, audio.duration)
    assert all(one.end == other.start for one, other in zip(found.chords, found.chords[1:], strict=False))
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_a_file_other_than_the_published_one_is_refused(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "btc"
    own.mkdir()
    (own / checkpoint.name).write_bytes(checkpoint.read_bytes())
    with pytest.raises(WeightsMissingError, match="damaged or another file"):
        registry.load("chords", "btc", WeightStore(tmp_path, offline=True))


def test_missing_weights_are_explained_and_auto_skips_the_backend(tmp_path: Path) -> None:
    store = WeightStore(tmp_path, offline=True)
    found = registry.availability("chords", "btc", store)
    assert not found.available
    assert "put btc_model_large_voca.pt into btc/" in found.reason
    assert registry.choose("chords", registry.AUTO, registry.AUTO, store).entry.name != "btc"
    with pytest.raises(WeightsMissingError, match=r"btc_model_large_voca\.pt"):
        registry.load("chords", "btc", store)


@pytest.mark.parametrize("samples", [btc.PIECE_SAMPLES, btc.PIECE_SAMPLES + 1, btc.HOP // 2])
def test_pieces_of_any_length_become_frames(checkpoint: Path, samples: int) -> None:
    mix = np.random.default_rng(0).standard_normal(samples).astype(np.float32)
    spectrum = btc.constant_q(mix, lambda done: None)
    whole, rest = divmod(samples, btc.PIECE_SAMPLES)
    rest = max(rest, btc.HOP) if rest else 0
    assert spectrum.shape == (108 * whole + (rest // btc.HOP + 1 if rest else 0), 144)
    found = BtcChords(checkpoint, "cpu").probabilities(spectrum, lambda done: None)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


def test_silence_has_no_chords(checkpoint: Path) -> None:
    silence = Audio(np.zeros((2, 3 * 44_100), np.float32), 44_100)
    found = BtcChords(checkpoint, "cpu").analyze(silence, Context(), lambda done: None)
    assert [chord.label for chord in found.chords] == ["N"]


def test_labels_are_harte_syntax() -> None:
    assert len(btc.LABELS) == 170
    for label in btc.LABELS:
        mir_eval.chord.encode(label)
    known = {label.split(":")[-1] for label in btc.LABELS} - {"X"}
    assert known == set(registry.entry("chords", "btc").vocabulary)
