"""MDX23C: the network computes what the reference code does, and its sizes say which tensors a checkpoint has.

The figures are those of `TFC_TDF_net` in the package audio-separator 0.47.1.
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
from services.separation.models.mdx23c.architecture import Architecture
from services.separation.models.mdx23c.network import Network
from services.separation.models.mdx23c.separator import network_of
from services.separation.models.segmented.spectral_network import SpectralNetwork, TorchCore
from tests.separation.formula import drop_in, figures, fill, reference, wave

SMALL: dict[str, Any] = {
    "stems": 2, "num_channels": 16, "growth": 8, "num_scales": 2, "scale": (2, 2), "num_blocks_per_scale": 2,
    "bottleneck_factor": 4, "num_subbands": 4, "norm": "InstanceNorm", "act": "gelu", "dim_f": 128, "n_fft": 256,
    "hop_length": 64,
}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "instance norm": {},
    "batch norm": {"norm": "BatchNorm", "act": "relu"},
    "group norm, one stem": {"norm": "GroupNorm4", "act": "elu0.7", "stems": 1},
    "no norm, other scales": {
        "norm": None, "dim_f": 64, "stems": 4, "scale": (2, 4), "num_subbands": 1, "num_blocks_per_scale": 3
    },
}  # fmt: skip
LARGE = SMALL | {"num_channels": 128, "growth": 128, "num_scales": 5}
PUBLISHED: dict[str, dict[str, Any]] = {
    "MDX23C-8KFFT-InstVoc_HQ": LARGE | {"dim_f": 4096, "n_fft": 8192, "hop_length": 1024},
    "MDX23C_D1581": LARGE | {"growth": 64, "dim_f": 4096, "n_fft": 12288, "hop_length": 2048},
    "DrumSep": LARGE | {"stems": 6, "dim_f": 1024, "n_fft": 2048, "hop_length": 512},
}
FRAMES = 32
CHUNK = 64 * (FRAMES - 1)


def network(sizes: Architecture) -> SpectralNetwork:
    core = TorchCore(fill(Network(sizes)), torch.device("cpu"))
    return network_of(core, sizes, sizes.hop_length * (FRAMES - 1))


@pytest.mark.parametrize("case", CASES)
def test_it_computes_what_the_reference_code_does(case: str) -> None:
    ours = network(Architecture(**SMALL | CASES[case]))
    stems = ours(wave(ours.segment_samples))
    assert figures(stems[0]) == pytest.approx(reference("mdx23c", case), abs=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("name", PUBLISHED)
def test_it_does_so_at_the_published_sizes(name: str) -> None:
    ours = network(Architecture(**PUBLISHED[name]))
    stems = ours(wave(ours.segment_samples))
    assert figures(stems[0]) == pytest.approx(reference("mdx23c", name), abs=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_the_sizes_say_which_tensors_a_checkpoint_has(case: str) -> None:
    sizes = Architecture(**SMALL | CASES[case])
    assert sizes.shapes() == {name: tuple(tensor.shape) for name, tensor in Network(sizes).state_dict().items()}


def test_the_sizes_say_how_much_is_computed() -> None:
    sizes = Architecture(**SMALL)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        Network(sizes)(torch.zeros(1, 4, sizes.dim_f, FRAMES))
    assert sizes.gflop() == pytest.approx(counter.get_total_flops() / FRAMES / 1e9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim_f": 130}, "dim_f must be at most n_fft / 2 \\+ 1 = 129"),
        ({"dim_f": 120}, "dim_f must be a multiple of .* = 16, not 120"),
        ({"bottleneck_factor": 9}, "bottleneck_factor must be at most 8"),
        ({"norm": "LayerNorm"}, "norm must be .*, not LayerNorm"),
        ({"norm": "GroupNorm5"}, "GroupNorm5 does not divide the channels"),
        ({"act": "swish"}, "act must be .*, not swish"),
        ({"act": "elux"}, "act must be .*, not elux"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Architecture(**SMALL | changes)


def sections(changes: dict[str, Any], **training: Any) -> dict[str, Any]:
    """A configuration as training programs write it."""
    sizes = SMALL | {"scale": [2, 2]} | changes
    audio = {name: sizes.pop(name) for name in ("dim_f", "n_fft", "hop_length")}
    sizes.pop("stems")
    return {
        "audio": audio | {"chunk_size": CHUNK, "dim_t": FRAMES, "num_channels": 2, "sample_rate": 44_100},
        "model": sizes,
        "training": {"instruments": ["Vocals", "Instrumental"], "target_instrument": None} | training,
        "inference": {"batch_size": 1, "dim_t": FRAMES, "num_overlap": 4},
    }


def test_a_dropped_in_checkpoint_is_a_model(tmp_path: Path) -> None:
    sizes = Architecture(**SMALL)
    drop_in(tmp_path, "mine", fill(Network(sizes)), **sections({}))
    models = WeightStore(tmp_path, offline=True)
    entry = registry.entry("mine", models)
    assert (entry.family, entry.stems, entry.overlap) == ("mdx23c", ("vocals", "instrumental"), 0.75)
    mix = wave(CHUNK)
    chunks = registry.load("mine", models).separate(mix[0].numpy(), Options(overlap=0), lambda _: None)
    stems = join(chunks, entry.stems)
    torch.testing.assert_close(torch.from_numpy(np.stack(list(stems.values()))), network(sizes)(mix)[0])


def test_a_model_of_one_stem_also_gives_the_rest(tmp_path: Path) -> None:
    changes = {"stems": 1, "norm": "GroupNorm4", "act": "elu0.7"}
    module = fill(Network(Architecture(**SMALL | changes)))
    drop_in(
        tmp_path,
        "mine",
        module,
        **sections(changes, instruments=["Similarity", "Difference"], target_instrument="Similarity"),
    )
    models = WeightStore(tmp_path, offline=True)
    separator = registry.load("mine", models)
    assert separator.stems == registry.entry("mine", models).stems == ("similarity", "difference")
    mix = wave(3 * CHUNK // 2)[0].numpy()
    stems = join(separator.separate(mix, Options(overlap=0), lambda _: None), separator.stems)
    np.testing.assert_allclose(stems["similarity"] + stems["difference"], mix, atol=1e-6)
    assert 0.01 < stems["similarity"].std() < 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"norm": "BatchNorm"}}, r"tensors that are missing, 132 of \d+: .*running_mean"),
        ({"model": {"num_channels": 32}}, r"of another shape, .*: first_conv.weight \(16x16x1x1 in place of 32x"),
        ({"model": {"growth": 0.5}}, "`model.growth` must be a whole number from 0 to 16777216; it is 0.5"),
        ({"model": {"scale": [2]}}, r"`model.scale` must be a list of 2 values; it is \[2\]"),
        ({"model": {"use_stht": True}}, "`model` has keys that are not known: use_stht"),
        ({"audio": {"num_channels": 1}}, r"the network takes 1 channel\(s\), not 2"),
        ({"audio": {"dim_f": None}}, "`audio.dim_f` must be a whole number from 1 to 16777216; it is missing"),
        ({"audio": {"chunk_size": 2000}}, "`chunk_size` 2000 must be hop_length = 64 times one less than"),
        ({"audio": {"dim_f": 100}}, "dim_f must be a multiple of"),
        ({"training": {"instruments": ["Vocals"]}}, "tensors of another shape, 1 of .*: final_conv.2.weight"),
    ],
)  # fmt: skip
def test_a_pair_that_does_not_fit_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    content = sections({})
    for name, values in changes.items():
        content[name] |= values
    drop_in(tmp_path, "mine", fill(Network(Architecture(**SMALL))), **content)
    assert re.search(message, registry.entry("mine", WeightStore(tmp_path, offline=True)).fault)
