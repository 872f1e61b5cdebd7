"""Stems before they are stored: levels, early chunks, and the rest of a stem."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from services.common.errors import InvalidInputError
from services.common.samples import Samples
from services.separation.stems import (
    LIVE_SECONDS,
    LiveStem,
    Rest,
    StemFile,
    common_gain,
    make_stems,
    needed_sources,
    wanted_stems,
)

RATE = 8000
GIVEN = ("drums", "bass", "vocals")


def noise(samples: int, level: float = 0.2, seed: int = 0) -> Samples:
    return np.random.default_rng(seed).uniform(-level, level, (2, samples)).astype("f4")


def stored(folder: Path, name: str, sound: Samples, gain: float | None = None) -> tuple[StemFile, Samples, np.ndarray]:
    with StemFile(folder, name, RATE) as file:
        for first in range(0, sound.shape[1], 3000):
            file.write(sound[:, first : first + 3000])
        path, peaks = file.finish(common_gain([file]) if gain is None else gain)
        return file, soundfile.read(path, dtype="float32", always_2d=True)[0].T, peaks.pairs


def test_a_stem_keeps_its_level_and_length(tmp_path: Path) -> None:
    sound = noise(10_007)
    file, back, peaks = stored(tmp_path, "bass", sound)
    np.testing.assert_allclose(back, sound, atol=2**-23)
    assert peaks.max() == round(float(sound.max()) * 127)
    assert not file.silent


def test_a_stem_beyond_full_scale_is_lowered_not_clipped(tmp_path: Path) -> None:
    sound = noise(10_007, level=1.6)
    loudest = float(np.abs(sound).max())
    _, back, peaks = stored(tmp_path, "drums", sound)
    np.testing.assert_allclose(back, sound / loudest, atol=1e-6)
    assert max(peaks.max(), -peaks.min()) == 127


def test_all_stems_are_lowered_by_one_factor(tmp_path: Path) -> None:
    with StemFile(tmp_path, "loud", RATE) as loud, StemFile(tmp_path, "soft", RATE) as soft:
        loud.write(np.full((2, 100), 2.0, "f4"))
        soft.write(np.full((2, 100), 0.5, "f4"))
        gain = common_gain([loud, soft])
        assert gain == 0.5
        path, _ = soft.finish(gain)
        assert soundfile.read(path)[0].max() == pytest.approx(0.25)


@pytest.mark.parametrize(("level", "silent"), [(0.0, True), (0.0009, True), (0.002, False)])
def test_inaudible_stems_are_marked_silent(tmp_path: Path, level: float, silent: bool) -> None:
    file, _, _ = stored(tmp_path, "vocals", np.full((2, 500), level, "f4"))
    assert file.silent == silent


def test_samples_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    with StemFile(tmp_path, "vocals", RATE) as file, pytest.raises(InvalidInputError, match="finite"):
        file.write(np.full((2, 10), np.nan, "f4"))


def test_early_chunks_join_without_a_gap() -> None:
    files: list[bytes] = []
    live = LiveStem(RATE, lambda number, data: files.insert(number, data))
    sound = noise(int(2.6 * LIVE_SECONDS * RATE))
    for first in range(0, sound.shape[1], 7001):
        live.write(sound[:, first : first + 7001])
    assert live.count == 2
    live.finish()
    pieces = [soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)[0].T for data in files]
    assert [piece.shape[1] for piece in pieces[:2]] == [live.file_samples] * 2
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), sound, atol=2**-23)


def test_the_rest_is_the_sum_of_the_other_stems_or_the_residual() -> None:
    stems = {name: noise(50, seed=seed) for seed, name in enumerate(GIVEN)}
    mix = noise(50, seed=9)
    made = make_stems(stems, mix, ["vocals", "no_vocals"], "sum")
    np.testing.assert_allclose(made["no_vocals"], stems["drums"] + stems["bass"], atol=1e-6)
    assert made["vocals"] is stems["vocals"]
    made = make_stems(stems, mix, ["no_drums"], "minus")
    np.testing.assert_allclose(made["no_drums"], mix - stems["drums"], atol=1e-6)


def test_stems_are_made_in_the_models_order() -> None:
    assert wanted_stems([], GIVEN) == list(GIVEN)
    assert wanted_stems(["no_vocals", "vocals"], GIVEN) == ["vocals", "no_vocals"]
    assert wanted_stems(["no_vocals"], GIVEN) == ["no_vocals"]


@pytest.mark.parametrize(
    ("wanted", "rest", "needed"),
    [
        (["bass", "drums"], "sum", ("drums", "bass")),
        (["no_vocals"], "sum", ("drums", "bass")),
        (["no_vocals"], "minus", ("vocals",)),
        (["vocals", "no_vocals"], "minus", ("vocals",)),
    ],
)
def test_the_stems_that_a_model_must_compute(wanted: list[str], rest: Rest, needed: tuple[str, ...]) -> None:
    given = ["drums", "bass", "vocals"]
    assert needed_sources(wanted, given, rest) == needed
    piece = np.ones((2, 10), np.float32)
    assert list(make_stems(dict.fromkeys(needed, piece), piece, wanted, rest)) == wanted
