"""madmom's networks and spectra, computed faster, give the results of madmom's own code on music."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from services.analysis.backends.madmom import stages
from services.analysis.backends.madmom.networks import ConvolutionalNetwork, RecurrentNetwork
from services.analysis.backends.signal import lstm
from services.common.errors import StoppedError
from services.common.samples import Audio
from songs.small_songs import Song

Excerpt = Callable[[float], Audio]


@pytest.fixture(scope="module", autouse=True)
def _madmom() -> None:
    stages.prepare()


def ignore(_done: float) -> None:
    pass


def downbeat_features(audio: Audio) -> npt.NDArray[np.float32]:
    from madmom.features.downbeats import RNNDownBeatProcessor

    features: npt.NDArray[np.float32] = RNNDownBeatProcessor().processors[0](stages.signal(audio))
    return features


@pytest.mark.parametrize("block", [lstm.FRAMES_AT_ONCE, 37])
def test_recurrent_networks_equal_madmoms(excerpt: Excerpt, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from madmom.features.downbeats import RNNDownBeatProcessor

    monkeypatch.setattr(lstm, "FRAMES_AT_ONCE", block)
    features = downbeat_features(excerpt(4))
    for network in RNNDownBeatProcessor().processors[1].processors[0].processors[:2]:
        found = RecurrentNetwork(network)(features, ignore)
        np.testing.assert_allclose(found, network(features), atol=1e-5)
        assert np.ptp(found[:, 2]) > 0.5, "the music must have beats"


def networks_of(part: str) -> list[Any]:
    from madmom.features.chords import CNNChordFeatureProcessor
    from madmom.features.key import CNNKeyRecognitionProcessor

    if part == "key":
        return list(CNNKeyRecognitionProcessor().processors[4].processors[0].processors)
    return [CNNChordFeatureProcessor().processors[5]]


@pytest.mark.parametrize(("part", "bins"), [("key", 105), ("chords", 105)])
def test_convolutional_networks_equal_madmoms(part: str, bins: int) -> None:
    bands = np.abs(np.random.default_rng(0).standard_normal((41, bins))).astype(np.float32)
    for network in networks_of(part)[:2]:
        expected = np.squeeze(network(bands))
        np.testing.assert_allclose(ConvolutionalNetwork(network)(bands, ignore), expected, atol=2e-5)


def test_networks_can_be_stopped(excerpt: Excerpt) -> None:
    from madmom.features.downbeats import RNNDownBeatProcessor

    def stop(_done: float) -> None:
        raise StoppedError("enough")

    network = RecurrentNetwork(RNNDownBeatProcessor().processors[1].processors[0].processors[0])
    with pytest.raises(StoppedError):
        network(downbeat_features(excerpt(2)), stop)
    with pytest.raises(StoppedError):
        ConvolutionalNetwork(networks_of("key")[0])(np.zeros((40, 105), np.float32), stop)


@pytest.mark.parametrize("samples", [300, 44_100])
@pytest.mark.parametrize("kind", ["float32", "int16"])
def test_spectra_equal_those_of_single_frames(song: Song, samples: int, kind: str) -> None:
    from madmom.audio.signal import FramedSignal, Signal
    from madmom.audio.stft import ShortTimeFourierTransform

    mono = song.audio.samples[0, :samples] * (32_767 if kind == "int16" else 1)
    framed = FramedSignal(Signal(mono.astype(kind), sample_rate=44_100), frame_size=2048, hop_size=441)
    spectra = np.asarray(ShortTimeFourierTransform(framed))
    assert spectra.shape == (len(framed), 1024)
    window = np.hanning(2048) / (32_767 if kind == "int16" else 1)
    expected = np.array([np.fft.rfft(np.asarray(frame, float) * window)[:1024] for frame in framed])
    np.testing.assert_allclose(spectra, expected, atol=1e-3)
    part = np.asarray(ShortTimeFourierTransform(framed[5:9] if samples > 10_000 else framed[:1]))
    np.testing.assert_allclose(part, expected[5:9] if samples > 10_000 else expected[:1], atol=1e-3)
