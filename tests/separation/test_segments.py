"""Stems equal those of `demucs.apply.apply_model` on small networks of all its architectures, with random weights."""

import random
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import demucs.apply
import numpy as np
import pytest
import torch
from demucs.apply import BagOfModels, apply_model
from demucs.demucs import Demucs
from demucs.hdemucs import HDemucs
from demucs.htdemucs import HTDemucs

from services.common.errors import PreconditionError
from services.common.samples import Samples
from services.separation.models.base import Options, join
from services.separation.models.demucs.separator import separator_of
from services.separation.models.segmented.segments import (
    BLOCK,
    OverlapAdd,
    Segment,
    centre,
    level_of,
    mean_of,
    segments_of,
    stride_of,
    triangle,
    window,
)
from services.separation.models.segmented.separator import SegmentedSeparator

RATE = 8000
STEMS = ["drums", "vocals"]
SEGMENT = Fraction(1, 4)  # 2000 samples


def transformer(seed: int = 0, segment: Fraction = SEGMENT) -> HTDemucs:
    torch.manual_seed(seed)
    model: HTDemucs = HTDemucs(
        STEMS, samplerate=RATE, segment=segment, channels=8, depth=2, nfft=256, t_layers=1, t_heads=2
    )
    return model


def hybrid(seed: int = 0, segment: float = 0.3) -> HDemucs:
    torch.manual_seed(seed)
    model: HDemucs = HDemucs(
        STEMS, samplerate=RATE, segment=segment, channels=8, depth=3, nfft=256, dconv_attn=9, dconv_lstm=9
    )
    return model


def waveform(seed: int = 0, segment: float = 0.26) -> Demucs:
    torch.manual_seed(seed)
    model: Demucs = Demucs(STEMS, samplerate=RATE, segment=segment, channels=8, depth=3, lstm_layers=0)
    return model


def bag() -> BagOfModels:
    """Models of all kinds with different segments, and some weights of 0."""
    return BagOfModels([transformer(1), hybrid(2), waveform(3)], [[1.0, 0.0], [0.5, 2.0], [0.0, 1.0]])


MODELS: dict[str, Callable[[], Any]] = {"transformer": transformer, "hybrid": hybrid, "waveform": waveform, "bag": bag}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Any:
    return MODELS[request.param]().eval()


def song(samples: int, seed: int = 0) -> Samples:
    """Swelling noise with an offset and different channels, so that nothing cancels out."""
    noise = np.random.default_rng(seed).normal(0.02, 0.2, (2, samples))
    return (noise * np.linspace(0.5, 1.5, samples) * [[1.0], [0.7]]).astype("f4")


def of_demucs(model: Any, mix: Samples, **options: Any) -> Samples:
    """demucs' stems, [stems, 2, samples] of the normalised mix."""
    level = level_of(mix)
    wave = (torch.from_numpy(mix) - level.mean) / level.deviation
    return apply_model(model, wave[None], device="cpu", **options)[0].numpy()


def ours(separator: SegmentedSeparator, mix: Samples, options: Options, draw: random.Random | None = None) -> Samples:
    """The separator's stems, scaled back to the normalised mix's level."""
    level = level_of(mix)
    stems = join(separator.separate(mix, options, lambda _: None, draw), separator.stems)
    return (np.stack([stems[stem] for stem in STEMS]) - np.float32(level.mean)) / np.float32(level.deviation)


def assert_equal(actual: Samples, expected: Samples) -> None:
    assert actual.shape == expected.shape
    assert actual.dtype == np.float32
    scale = np.abs(expected).max()
    assert scale > 1e-3, "the network gives next to nothing: equality would say nothing"
    assert np.abs(actual - expected).max() <= 1e-5 * max(1.0, scale)
    assert np.abs(actual - expected).max() <= 1e-4 * scale


@pytest.mark.parametrize("overlap", [0.0, 0.1, 0.25, 0.5, 0.77])
@pytest.mark.parametrize("samples", [9001, 6000, 2001, 1777, 300])
def test_stems_equal_those_of_apply_model(model: Any, samples: int, overlap: float) -> None:
    mix = song(samples)
    expected = of_demucs(model, mix, shifts=0, overlap=overlap)
    assert_equal(ours(separator_of(model), mix, Options(overlap=overlap)), expected)


@pytest.mark.parametrize("samples", [2, 3, 17])
def test_songs_of_a_few_samples_equal_those_of_apply_model(samples: int) -> None:
    """Only for some kinds: a spectrogram network without a fixed length needs more samples than that."""
    for model in (transformer(), waveform()):
        mix = song(samples, seed=5)
        assert_equal(ours(separator_of(model), mix, Options()), of_demucs(model, mix, shifts=0))


def test_a_song_of_one_sample_has_stems_of_one_sample() -> None:
    (chunk,) = separator_of(transformer()).separate(song(1), Options(), lambda _: None)
    assert (chunk.start, chunk.samples) == (0, 1)
    assert all(stem.shape == (2, 1) and np.isfinite(stem).all() for stem in chunk.stems.values())


@pytest.mark.parametrize(("shifts", "overlap"), [(1, 0.25), (3, 0.25), (2, 0.6)])
@pytest.mark.parametrize("samples", [9001, 1500])
def test_shifts_equal_those_of_apply_model(
    monkeypatch: pytest.MonkeyPatch, model: Any, samples: int, shifts: int, overlap: float
) -> None:
    mix = song(samples)
    # A separate generator: HTDemucs draws from the module's too.
    monkeypatch.setattr(demucs.apply, "random", random.Random(11))
    expected = of_demucs(model, mix, shifts=shifts, overlap=overlap)
    actual = ours(separator_of(model), mix, Options(shifts=shifts, overlap=overlap), random.Random(11))
    assert_equal(actual, expected)


def test_other_shifts_give_other_stems_and_the_default_always_the_same() -> None:
    separator, mix, options = separator_of(transformer()), song(5000), Options(shifts=1)
    first, second = (ours(separator, mix, options, random.Random(seed)) for seed in (1, 2))
    assert np.abs(first - second).max() > 1e-4 * np.abs(first).max()
    # Not to the bit: after some segments the network runs converted.
    assert_equal(ours(separator, mix, options), ours(separator, mix, options))


@pytest.mark.parametrize("batch", [2, 3, 100])
@pytest.mark.parametrize("shifts", [0, 2])
def test_the_batch_size_does_not_change_the_result(model: Any, batch: int, shifts: int) -> None:
    mix, separator = song(9001), separator_of(model)
    one = ours(separator, mix, Options(shifts=shifts))
    assert_equal(ours(separator, mix, Options(shifts=shifts, batch=batch)), one)


@pytest.mark.parametrize(("stem", "numbers"), [("drums", {0, 1}), ("vocals", {1, 2})])
def test_a_bag_runs_only_the_networks_that_the_wanted_stems_need(
    stem: str, numbers: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, mix = bag(), song(5000)
    separator = separator_of(model)
    whole = join(separator.separate(mix, Options(shifts=1), lambda _: None), STEMS)
    ran: set[int] = set()

    class CountingNetwork:
        def __init__(self, network: Any, number: int) -> None:
            self._network, self._number = network, number

        def __getattr__(self, name: str) -> Any:
            return getattr(self._network, name)

        def __call__(self, batch: torch.Tensor) -> torch.Tensor:
            ran.add(self._number)
            stems: torch.Tensor = self._network(batch)
            return stems

    counting = tuple(CountingNetwork(network, number) for number, network in enumerate(separator._networks))
    monkeypatch.setattr(separator, "_networks", counting)
    told: list[float] = []
    chunks = list(separator.separate(mix, Options(shifts=1, stems=(stem,)), told.append))
    assert ran == numbers
    assert told[-1] == 1.0
    np.testing.assert_allclose(join(chunks, [stem])[stem], whole[stem], atol=1e-6)


def test_a_bag_that_leaves_a_stem_without_a_model_is_refused() -> None:
    with pytest.raises(PreconditionError, match=r"none of .* has a weight for vocals"):
        separator_of(BagOfModels([transformer(), hybrid()], [[1.0, 0.0], [1.0, 0.0]]))


@pytest.mark.parametrize("samples", [1, 2, 1000, BLOCK, 2 * BLOCK + 7])
def test_the_level_is_that_of_the_mean_channel(samples: int) -> None:
    mix = song(samples)
    mono = mix.mean(axis=0, dtype="f8")
    level = level_of(mix)
    assert level.mean == pytest.approx(mono.mean(), abs=1e-12)
    assert level.deviation == pytest.approx(mono.std(ddof=min(1, samples - 1)) + 1e-8, rel=1e-9)


def test_a_large_offset_does_not_drown_the_deviation() -> None:
    mix = (1.0 + 1e-4 * np.random.default_rng(0).standard_normal((1, 3 * BLOCK)).repeat(2, axis=0)).astype("f4")
    assert level_of(mix).deviation == pytest.approx(mix[0].std(dtype="f8") + 1e-8, rel=1e-6)


def test_segments_start_at_every_stride_and_end_with_the_song() -> None:
    assert stride_of(100, 0.25) == 75
    assert segments_of(0, 200, 100, 75) == [Segment(0, 100), Segment(75, 100), Segment(150, 50)]
    assert segments_of(-30, 60, 100, 75) == [Segment(-30, 90), Segment(45, 15)]
    assert stride_of(3, 0.99) == 1


def test_a_window_includes_the_surrounding_mix_and_zeros_beyond_it() -> None:
    mix = np.stack([np.arange(1, 11), np.arange(101, 111)]).astype("f4")
    level = level_of(mix)

    def seen(segment: Segment, samples: int) -> list[float]:
        wide = window(mix, segment, samples, level)
        return [round(float(value), 3) for value in wide[0] * level.deviation + level.mean]

    zero = round(level.mean, 3)
    assert seen(Segment(4, 3), 6) == [4, 5, 6, 7, 8, 9]  # the odd one is on the right
    assert seen(Segment(8, 2), 5) == [8, 9, 10, zero, zero]
    assert seen(Segment(-3, 4), 4) == [zero, zero, zero, 1]
    assert seen(Segment(-9, 2), 4) == [zero] * 4


@pytest.mark.parametrize("samples", [1, 2, 5, 8])
def test_the_centre_undoes_the_window(samples: int) -> None:
    mix = song(20)
    level = level_of(mix)
    for extra in range(4):
        wide = window(mix, Segment(6, samples), samples + extra, level)
        torch.testing.assert_close(centre(wide, samples), window(mix, Segment(6, samples), samples, level))


def test_triangles_are_highest_in_the_middle() -> None:
    assert triangle(4).tolist() == [0.5, 1.0, 1.0, 0.5]
    assert triangle(5).tolist() == pytest.approx([1 / 3, 2 / 3, 1.0, 2 / 3, 1 / 3])
    assert triangle(1).tolist() == [1.0]


@pytest.mark.parametrize("stride", [100, 75, 50, 13, 1])
def test_segments_add_up_to_the_song_stride_by_stride(stride: int) -> None:
    whole = torch.rand(3, 2, 321)
    overlap_add = OverlapAdd(stride)
    segments = segments_of(0, 321, 100, stride)
    done = [
        overlap_add.add(whole[..., one.start : one.start + one.samples], triangle(100)[: one.samples])
        for one in segments
    ]
    assert all(block.shape[-1] == stride for block in done[:-1])
    torch.testing.assert_close(torch.cat(done, dim=-1), whole)


def test_passes_are_averaged_in_step() -> None:
    taken = [0, 0]

    def blocks(number: int, value: float, lengths: list[int]) -> Iterator[torch.Tensor]:
        for length in lengths:
            taken[number] += length
            yield torch.full((2, 2, length), value)

    means = mean_of([blocks(0, 1.0, [5, 5, 5]), blocks(1, 4.0, [2, 12, 1])], [[2.0, 0.0], [1.0, 3.0]])
    seen = 0
    for block in means:
        assert set(block[0].flatten().tolist()) == {2.0}
        assert set(block[1].flatten().tolist()) == {4.0}
        seen += block.shape[-1]
        assert max(taken) - seen <= 12
    assert seen == 15
