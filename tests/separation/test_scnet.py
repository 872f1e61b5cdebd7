"""SCNet: the network computes what the reference code does, and its sizes say which tensors a checkpoint has.

The figures are those of `SCNet` in ZFTurbo/Music-Source-Separation-Training at ccc011a (June 2026), in `scnet.py` and,
for masks, `scnet_masked.py`. The first is the code of the authors (starrytong/SCNet) without a normalisation of the
spectrum, with which the published checkpoints are not used.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from services.common.weights.store import WeightStore
from services.separation.models import registry
from services.separation.models.base import Options, join
from services.separation.models.scnet.architecture import Architecture
from services.separation.models.scnet.network import Network
from services.separation.models.scnet.separator import network_of
from services.separation.models.segmented.spectral_network import SpectralNetwork, TorchCore
from tests.separation.formula import drop_in, figures, fill, reference, wave

SMALL: dict[str, Any] = {
    "stems": 2, "dims": (4, 8, 12, 16), "nfft": 512, "hop_size": 128, "win_size": 512, "num_dplayer": 2
}  # fmt: skip
IHF: dict[str, Any] = {
    "band_SR": (0.23, 0.37, 0.4), "band_stride": (1, 4, 4), "band_kernel": (3, 4, 4), "conv_depths": (3, 3, 3)
}  # fmt: skip
BANDS: dict[str, Any] = {
    "band_SR": (0.175, 0.392, 0.433), "band_stride": (1, 4, 16), "band_kernel": (3, 4, 16), "conv_depths": (3, 2, 1)
}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "two stems": {},
    "four stems, other bands": IHF | {"stems": 4, "normalized": False, "expand": 2, "win_size": 400, "num_dplayer": 4},
    "masks": {"masked": True},
}
XL = {"stems": 4, "dims": (4, 64, 128, 256), "band_SR": (0.23, 0.37, 0.4), "num_dplayer": 8}
PUBLISHED: dict[str, dict[str, Any]] = {
    "small": {"stems": 4},
    "XL IHF": XL | IHF,
    "masked XL IHF": XL | IHF | {"masked": True},
}


def network(sizes: Architecture, samples: int) -> SpectralNetwork:
    return network_of(TorchCore(fill(Network(sizes)), torch.device("cpu")), sizes, samples)


# The frames of a segment are made even: with a length that ends in a frame, one that does not, an odd and an even one.
LENGTHS = {"two stems": 5000, "four stems, other bands": 5120, "masks": 5001}


@pytest.mark.parametrize("case", CASES)
def test_it_computes_what_the_reference_code_does(case: str) -> None:
    samples = LENGTHS[case]
    stems = network(Architecture(**SMALL | CASES[case]), samples)(wave(samples))
    assert figures(stems[0]) == pytest.approx(reference("scnet", case), abs=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("name", PUBLISHED)
def test_it_does_so_at_the_published_sizes(name: str) -> None:
    samples = 20_000
    stems = network(Architecture(**PUBLISHED[name]), samples)(wave(samples))
    assert figures(stems[0]) == pytest.approx(reference("scnet", name), abs=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_the_sizes_say_which_tensors_a_checkpoint_has(case: str) -> None:
    sizes = Architecture(**SMALL | CASES[case])
    assert sizes.shapes() == {name: tuple(tensor.shape) for name, tensor in Network(sizes).state_dict().items()}


def test_the_sizes_say_how_much_is_computed() -> None:
    sizes = Architecture(**SMALL | {"num_dplayer": 0})  # torch does not count LSTMs
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        Network(sizes)(torch.zeros(1, 4, sizes.nfft // 2 + 1, 32))
    assert sizes.gflop() == pytest.approx(counter.get_total_flops() / 32 / 1e9, rel=0.1)
    assert Architecture(**SMALL).gflop() > sizes.gflop()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dims": (2, 8)}, "dims must begin with 2 \\* audio_channels = 4"),
        ({"conv_kernel": 4}, "conv_kernel must be odd"),
        ({"num_dplayer": 3}, "num_dplayer must be even"),
        ({"band_kernel": (3, 4, 8)}, "band_kernel must not be smaller than band_stride: 8 < 16"),
        ({"win_size": 600}, "win_size must be at most nfft"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Architecture(**SMALL | changes)


CHUNK = 4000


def sections(changes: dict[str, Any], **inference: Any) -> dict[str, Any]:
    """A configuration as training programs write it."""
    sizes: dict[str, Any] = SMALL | BANDS | {"sources": ["drums", "vocals"], "conv_kernel": 3} | changes
    sizes.pop("stems")
    return {
        "audio": {"chunk_size": CHUNK, "num_channels": 2, "sample_rate": 44_100},
        "model": {name: list(value) if isinstance(value, tuple) else value for name, value in sizes.items()},
        "training": {"instruments": ["Drums", "Vocals"], "target_instrument": None, "normalize": False},
        "inference": {"batch_size": 8, "dim_t": 256, "num_overlap": 4} | inference,
    }


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
def test_a_dropped_in_checkpoint_is_a_model(tmp_path: Path, masked: bool, normalize: bool) -> None:
    sizes = Architecture(**SMALL, masked=masked)
    drop_in(tmp_path, "mine", fill(Network(sizes)), **sections({}, normalize=normalize))
    models = WeightStore(tmp_path, offline=True)
    entry = registry.entry("mine", models)
    assert (entry.family, entry.stems, entry.overlap) == ("scnet", ("drums", "vocals"), 0.75)
    mix = wave(CHUNK) + 0.01
    chunks = registry.load("mine", models).separate(mix[0].numpy(), Options(overlap=0), lambda _: None)
    stems = join(chunks, entry.stems)
    mono = mix.mean(dim=1)
    mean, deviation = (mono.mean(), mono.std()) if normalize else (torch.tensor(0.0), torch.tensor(1.0))
    expected = network(sizes, CHUNK)((mix - mean) / deviation)[0] * deviation + mean
    torch.testing.assert_close(torch.from_numpy(np.stack(list(stems.values()))), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dims": [4, 8, 12]}, r"tensors that the configuration does not ask for, \d+ of \d+: encoder.2.SDlayer"),
        ({"expand": 2}, r"separation_net.*weight_ih_l0 \(64x16 in place of 128x16\)"),
        ({"band_SR": [0.2, 0.8]}, r"`model.band_SR` must be a list of 3 values"),
        ({"band_stride": [1, 4, 0]}, "`model.band_stride` must be a list of whole numbers above 0"),
        ({"compress": "4"}, "`model.compress` must be a number above 0; it is '4'"),
        ({"tran_depth": 1}, "`model` has keys that are not known: tran_depth; the network may be a variant"),
        ({"audio_channels": 1}, r"the network takes 1 channel\(s\), not 2"),
        ({"sources": []}, "`model.sources` must be a list of names"),
        ({"sources": ["a", "b", "c"]}, r"tensors of another shape, \d+ of \d+: decoder.2.1.convtrs"),
        ({"num_dplayer": 3}, "num_dplayer must be even, not 3"),
    ],
)
def test_a_pair_that_does_not_fit_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    drop_in(tmp_path, "mine", fill(Network(Architecture(**SMALL))), **sections(changes))
    assert re.search(message, registry.entry("mine", WeightStore(tmp_path, offline=True)).fault)
