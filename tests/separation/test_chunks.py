"""Chunks of a song during separation: order, completeness, progress, memory, and stopping early."""

import gc
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from services.common.errors import Code, StemTubeError, StoppedError
from services.common.samples import Samples
from services.common.weights.store import WeightStore
from services.separation.models import registry
from services.separation.models.base import Chunk, Options, Separator, join
from services.separation.models.segmented.separator import SegmentedSeparator

RATE = 8000
STEMS = ("left", "swapped", "half")


class TrivialNetwork:
    """A network that is easy to check: it gives the segment, its channels swapped, and half of it."""

    def __init__(self, segment_samples: int = 1000, widen: int = 0) -> None:
        self.segment_samples = segment_samples
        self.widen = widen
        self.batches: list[int] = []

    def prepare(self, segments: int) -> None:
        pass

    def valid_length(self, samples: int) -> int:
        return samples + self.widen

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(batch))
        return torch.stack([batch, batch.flip(1), batch / 2], dim=1)


class OutOfMemoryNetwork(TrivialNetwork):
    """A network that runs out of memory if a batch has more than `fits` segments."""

    def __init__(self, fits: int, error: Exception) -> None:
        super().__init__()
        self.fits = fits
        self.error = error

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        if len(batch) > self.fits:
            self.batches.append(-len(batch))
            raise self.error
        return super().__call__(batch)


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("XPU out of memory"),
    MemoryError(),
]


def song(samples: int, seed: int = 0) -> Samples:
    return np.random.default_rng(seed).normal(0.02, 0.2, (2, samples)).astype("f4")


def ignore(_fraction: float) -> None:
    pass


@pytest.fixture(scope="module")
def spleeter(tmp_path_factory: pytest.TempPathFactory) -> Separator:
    return registry.load("spleeter_2stems", WeightStore(tmp_path_factory.mktemp("models"), offline=True))


def separator(*networks: TrivialNetwork) -> SegmentedSeparator:
    return SegmentedSeparator(STEMS, RATE, networks or [TrivialNetwork()])


def assert_complete(chunks: list[Chunk], stems: tuple[str, ...], samples: int) -> None:
    position = 0
    for chunk in chunks:
        assert chunk.start == position
        assert tuple(chunk.stems) == stems
        for stem in chunk.stems.values():
            assert stem.dtype == np.float32
            assert stem.shape == (2, chunk.samples)
        assert chunk.samples > 0
        position += chunk.samples
    assert position == samples


@pytest.mark.parametrize("samples", [0, 1, 999, 1000, 1001, 12_345])
@pytest.mark.parametrize(
    "options", [Options(), Options(overlap=0), Options(shifts=3, overlap=0.6), Options(shifts=1, batch=4)]
)
def test_chunks_are_complete_in_order_and_equal_the_networks_output(samples: int, options: Options) -> None:
    mix = song(samples)
    chunks = list(separator(TrivialNetwork(), TrivialNetwork(777, widen=5)).separate(mix, options, ignore))
    assert_complete(chunks, STEMS, samples)
    stems = join(chunks, STEMS)
    np.testing.assert_allclose(stems["left"], mix, atol=1e-6)
    np.testing.assert_allclose(stems["swapped"], mix[::-1], atol=1e-6)
    if samples:
        middle = mix.mean(dtype="f8")
        np.testing.assert_allclose(stems["half"], middle + (mix - middle) / 2, atol=1e-6)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.998])
def test_spleeters_chunks_are_complete_and_in_order(spleeter: Separator, overlap: float) -> None:
    samples = 44_100 * 13 if overlap < 0.9 else 5000
    mix = song(samples)
    chunks = list(spleeter.separate(mix, Options(overlap=overlap), ignore))
    assert_complete(chunks, spleeter.stems, samples)
    np.testing.assert_allclose(sum(join(chunks, spleeter.stems).values()), mix, atol=1e-6)
    if overlap < 0.9:
        assert len(chunks) > 1


def test_the_first_chunk_comes_after_the_first_segment_of_each_network() -> None:
    networks = TrivialNetwork(1000), TrivialNetwork(3000)
    chunks = separator(*networks).separate(song(100_000), Options(shifts=2), ignore)
    assert [network.batches for network in networks] == [[], []]
    first = next(chunks)
    # A shift may put more segments before the song: half a second is four segments of the first network.
    assert [len(network.batches) <= most for network, most in zip(networks, (2 * 7, 2 * 3), strict=True)] == [True] * 2
    assert first.start == 0


def test_a_chunk_is_given_right_after_its_last_segment() -> None:
    network = TrivialNetwork(1000)
    chunks = separator(network).separate(song(10_000), Options(overlap=0.25), ignore)
    for number, chunk in enumerate(chunks):
        assert len(network.batches) == number + 1
        assert chunk.start == 750 * number


def test_the_mix_is_not_changed_and_the_caller_owns_the_chunks() -> None:
    mix = song(5000)
    before = mix.copy()
    chunks = separator().separate(mix, Options(), ignore)
    first = next(chunks)
    first.stems["left"][:] = 7
    rest = list(chunks)
    np.testing.assert_array_equal(mix, before)
    np.testing.assert_allclose(join(rest, STEMS)["left"], mix[:, first.samples :], atol=1e-6)


def test_a_read_only_mix_is_accepted() -> None:
    mix = song(3000)
    mix.setflags(write=False)
    assert_complete(list(separator().separate(mix, Options(shifts=1), ignore)), STEMS, 3000)


@pytest.mark.parametrize("options", [Options(), Options(shifts=2, batch=3), Options(overlap=0.9, batch=7)])
def test_progress_rises_with_every_batch_from_0_to_1(options: Options) -> None:
    seen: list[float] = []
    networks = TrivialNetwork(1000), TrivialNetwork(2222)
    for chunk in separator(*networks).separate(song(20_001), options, seen.append):
        assert seen[-1] > chunk.start / 20_001 / 2
    assert seen[0] == 0.0
    assert seen[-1] == 1.0
    assert all(earlier < later for earlier, later in itertools.pairwise(seen))
    assert len(seen) == 1 + sum(len(network.batches) for network in networks)


def test_an_empty_mix_is_done_at_once() -> None:
    seen: list[float] = []
    assert not list(separator().separate(song(0), Options(), seen.append))
    assert seen == [0.0, 1.0]
    assert [stem.shape for stem in join([], STEMS).values()] == [(2, 0)] * 3


def test_work_is_stopped_between_segments() -> None:
    network = TrivialNetwork()
    model = separator(network)
    got: list[Chunk] = []

    def stop(_fraction: float) -> None:
        if len(network.batches) == 5:
            raise StoppedError("enough")

    chunks = model.separate(song(100_000), Options(), stop)
    with pytest.raises(StoppedError):
        got.extend(chunks)
    assert len(network.batches) == 5
    assert not list(chunks)  # it is over
    network.batches.clear()
    assert_complete(list(model.separate(song(3000), Options(), ignore)), STEMS, 3000)


def test_a_caller_can_stop_in_the_middle() -> None:
    network = TrivialNetwork()
    chunks = separator(network).separate(song(100_000), Options(shifts=2), ignore)
    next(chunks)
    computed = len(network.batches)
    chunks.close()  # type: ignore[attr-defined]
    assert len(network.batches) == computed


@pytest.mark.parametrize("family", ["demucs", "spleeter"])
def test_inference_mode_ends_at_every_chunk(family: str, spleeter: Separator) -> None:
    model: Separator = separator() if family == "demucs" else spleeter
    for _ in model.separate(song(50_000), Options(shifts=1), ignore):
        assert not torch.is_inference_mode_enabled()
        assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_songs_can_be_separated_alternately() -> None:
    model, mixes = separator(), [song(5000, seed=1), song(5000, seed=2)]
    both = list(zip(*(model.separate(mix, Options(), ignore) for mix in mixes), strict=True))
    for number, mix in enumerate(mixes):
        stems = join([pair[number] for pair in both], STEMS)
        np.testing.assert_allclose(stems["left"], mix, atol=1e-6)


def test_segments_are_computed_in_batches() -> None:
    network = TrivialNetwork(1000, widen=0)
    list(separator(network).separate(song(10_000), Options(overlap=0, batch=4), ignore))
    assert network.batches == [4, 4, 2]
    network.batches.clear()
    list(separator(network).separate(song(9001), Options(overlap=0, batch=4), ignore))
    assert network.batches == [4, 4, 1, 1]  # the last one is shorter


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
def test_batches_that_do_not_fit_into_memory_are_halved(error: Exception) -> None:
    network, mix = OutOfMemoryNetwork(2, error), song(20_000)
    seen: list[float] = []
    chunks = list(separator(network).separate(mix, Options(overlap=0, batch=9), seen.append))
    np.testing.assert_allclose(join(chunks, STEMS)["left"], mix, atol=1e-6)
    assert network.batches == [-9, -4, *[2] * 4, 1, *[2] * 5, 1]
    assert seen[-1] == 1.0
    # The next song tries again: another process may have freed memory by then.
    network.fits = 9
    network.batches.clear()
    list(separator(network).separate(mix, Options(overlap=0, batch=9), ignore))
    assert network.batches == [9, 9, 2]


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
def test_a_single_segment_that_does_not_fit_is_an_error(error: Exception, batch: int) -> None:
    with pytest.raises(StemTubeError, match="not enough memory") as caught:
        list(separator(OutOfMemoryNetwork(0, error)).separate(song(5000), Options(batch=batch), ignore))
    assert caught.value.code == Code.RESOURCE_EXHAUSTED
    assert caught.value.reason == "OUT_OF_MEMORY"


def test_other_errors_of_a_network_are_passed_on() -> None:
    with pytest.raises(RuntimeError, match="cuDNN"):
        list(
            separator(OutOfMemoryNetwork(2, RuntimeError("cuDNN error: no"))).separate(
                song(20_000), Options(batch=4), ignore
            )
        )


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def growth(chunks: Iterator[Chunk], samples: int) -> int:
    """The most bytes that the process grows by while chunks are made and dropped."""
    gc.collect()
    before, most, seen = resident(), 0, 0
    for chunk in chunks:
        seen += chunk.samples
        most = max(most, resident() - before)
    assert seen == samples
    return most


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="asks Linux for the process's memory")
def test_memory_does_not_grow_with_the_song() -> None:
    """Ten minutes: the mix takes 212 MB, its stems would take 635 MB, for each of the passes."""
    mix = np.zeros((2, 600 * 44_100), "f4")
    mix[:, ::1024] = 0.1  # all in memory before the measurement
    networks = [TrivialNetwork(5 * 44_100), TrivialNetwork(4 * 44_100)]
    model = SegmentedSeparator(STEMS, 44_100, networks)
    assert growth(model.separate(mix, Options(shifts=1), ignore), mix.shape[1]) < 120e6
