"""The registry, and Demucs with demucs' own loader on tiny networks with random weights."""

import itertools
import pickle
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.common.errors import InvalidInputError, PreconditionError, StoppedError, WeightsMissingError
from services.common.samples import Samples
from services.common.weights.store import WeightStore
from services.separation.models import registry
from services.separation.models.base import Options, Progress, Separator, join
from services.separation.models.demucs import entries

RATE = 44_100
STEMS = ("drums", "bass", "other", "vocals")
SEGMENT = Fraction(1, 2)


def write_package(folder: Path, signature: str, seed: int, **changes: Any) -> Path:
    """Saves a tiny HTDemucs as demucs' training does: `serialize_model` with half precision, `save_with_checksum`."""
    import torch
    from demucs.htdemucs import HTDemucs
    from demucs.states import get_state, save_with_checksum

    torch.manual_seed(seed)
    network = {"channels": 8, "depth": 4, "t_layers": 1, "t_heads": 2, "nfft": 4096, "segment": SEGMENT}
    model = HTDemucs(**({"sources": list(STEMS), "samplerate": RATE} | network | changes))
    args, kwargs = model._init_args_kwargs
    package = {"klass": HTDemucs, "args": args, "kwargs": kwargs, "state": get_state(model, None, half=True)}
    save_with_checksum(package | {"training_args": {}}, folder / f"{signature}.th")
    return next(folder.glob(f"{signature}-*.th"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> WeightStore:
    """A models directory with a user's own demucs repository: two models in a bag, and one by itself."""
    root = tmp_path_factory.mktemp("models")
    folder = root / "demucs"
    folder.mkdir()
    for seed, signature in enumerate(["aaaa1111", "bbbb2222", "cccc3333"]):
        write_package(folder, signature, seed)
    (folder / "duet.yaml").write_text("models: [aaaa1111, bbbb2222]\nweights: [[1, 0, 1, 1], [0, 1, 1, 1]]\n")
    return WeightStore(root, offline=True)


def song(seconds: float, seed: int = 0) -> Samples:
    return np.random.default_rng(seed).normal(0.01, 0.1, (2, int(seconds * RATE))).astype("f4")


def ignore(_fraction: float) -> None:
    pass


def whole(separator: Separator, mix: Samples, options: Options, progress: Progress = ignore) -> dict[str, Samples]:
    return join(separator.separate(mix, options, progress), separator.stems)


@pytest.mark.parametrize("name", ["duet", "cccc3333"])
def test_stems_equal_those_of_demucs_own_separator(store: WeightStore, name: str) -> None:
    import torch
    from demucs.api import Separator as Reference

    mix = song(1.7)
    reference = Reference(model=name, repo=store.root / "demucs", device="cpu", shifts=0)
    _, expected = reference.separate_tensor(torch.from_numpy(mix), RATE)

    separator = registry.load(name, store)
    stems = whole(separator, mix, Options())

    assert separator.stems == registry.entry(name, store).stems == tuple(stems) == STEMS
    for stem, audio in stems.items():
        assert audio.shape == mix.shape
        assert audio.dtype == np.float32
        np.testing.assert_allclose(audio, expected[stem].numpy(), atol=1e-6)


@pytest.mark.parametrize(("name", "models"), [("duet", 2), ("cccc3333", 1)])
@pytest.mark.parametrize("shifts", [0, 2])
def test_progress_covers_models_shifts_and_segments_evenly(
    store: WeightStore, name: str, models: int, shifts: int
) -> None:
    seen: list[float] = []
    whole(registry.load(name, store), song(1.5), Options(shifts=shifts, overlap=0), seen.append)

    assert seen[0] == 0.0
    assert seen[-1] == 1.0
    assert all(earlier <= later for earlier, later in itertools.pairwise(seen))
    passes = models * max(1, shifts)
    segments = 4 if shifts else 3  # a shift starts up to half a second before the song
    for step in range(passes * segments + 1):
        assert any(abs(fraction - step / (passes * segments)) < 1e-6 for fraction in seen)


def test_the_progress_callback_can_stop_the_work_and_the_model_stays_usable(store: WeightStore) -> None:
    separator = registry.load("duet", store)
    calls = []

    def stop(fraction: float) -> None:
        calls.append(fraction)
        if fraction >= 0.25:
            raise StoppedError("enough")

    with pytest.raises(StoppedError):
        whole(separator, song(2), Options(), stop)
    assert calls[-1] < 0.5
    assert set(whole(separator, song(0.5), Options())) == set(STEMS)


@pytest.mark.parametrize("samples", [0, 1, 1000])
def test_very_short_songs_keep_their_length(store: WeightStore, samples: int) -> None:
    stems = whole(registry.load("cccc3333", store), song(1)[:, :samples], Options())
    assert all(stem.shape == (2, samples) and np.isfinite(stem).all() for stem in stems.values())


def test_silence_stays_silent(store: WeightStore) -> None:
    stems = whole(registry.load("cccc3333", store), np.zeros((2, RATE), "f4"), Options())
    assert all(np.abs(stem).max() < 1e-6 for stem in stems.values())


@pytest.mark.parametrize("mix", [np.zeros((1, 9), "f4"), np.zeros(9, "f4"), np.zeros((2, 9), "f8")])
def test_a_mix_of_another_shape_or_type_is_refused(store: WeightStore, mix: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"float32 \[2, samples\]"):
        registry.load("cccc3333", store).separate(mix, Options(), ignore)


@pytest.mark.parametrize("options", [{"shifts": -1}, {"overlap": 1.0}, {"overlap": -0.1}, {"batch": 0}])
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="must be"):
        Options(**options)


def test_all_published_models_are_described() -> None:
    published = [registry.entry(name) for name in registry.names()]
    assert len({entry.version for entry in published}) == len(published)
    assert all(entry.licence and entry.cost > 0 and entry.sample_rate_hz == RATE for entry in published)
    demucs = ["htdemucs", "htdemucs_ft", "htdemucs_6s", "hdemucs_mmi", "mdx", "mdx_extra", "mdx_q", "mdx_extra_q"]
    assert [entry.name for entry in published if entry.family == "demucs"] == demucs
    assert registry.entry("htdemucs_6s").stems == (*STEMS, "guitar", "piano")
    assert registry.entry("spleeter_2stems").stems == ("vocals", "accompaniment")
    files = {entry.name: len(entry.weights.files) for entry in published if entry.weights}
    assert [files[name] for name in (*demucs, "spleeter_2stems")] == [1, 4, 1, 1, 4, 4, 4, 4, 2]
    weights = registry.entry("htdemucs").weights
    assert weights is not None
    (file,) = weights.files
    assert file.url == "https://dl.fbaipublicfiles.com/demucs/hybrid_transformer/955717e8-8726e21a.th"
    assert file.checksum == "sha256:8726e21a"


def test_a_users_own_models_are_listed_after_the_published_ones(store: WeightStore) -> None:
    assert registry.names(store) == [*registry.names(), "duet", "cccc3333"]
    assert registry.availability("duet", store).present
    assert registry.entry("duet", store).version != registry.entry("cccc3333", store).version


def test_an_unknown_model_is_refused_with_the_known_ones(store: WeightStore) -> None:
    for ask in (registry.entry, registry.availability, registry.choose, registry.load):
        with pytest.raises(InvalidInputError, match=r"'nonesuch'; choose one of auto, htdemucs, .*duet") as caught:
            ask("nonesuch", store)
        assert caught.value.reason == "UNKNOWN_MODEL"


def test_an_unavailable_model_says_how_to_get_it(store: WeightStore) -> None:
    answer = registry.availability("htdemucs_ft", store)
    assert not answer.available
    assert answer.reason == (
        "f7e0c4bc-ba3fe64a.th of the model htdemucs_ft is not here and cannot be fetched from dl.fbaipublicfiles.com "
        "(offline mode is on): put f7e0c4bc-ba3fe64a.th into demucs/ of the models directory, or run "
        "`stemtube models pull htdemucs_ft` with access to dl.fbaipublicfiles.com"
    )
    for ask in (registry.choose, registry.load):
        with pytest.raises(WeightsMissingError) as caught:
            ask("htdemucs_ft", store)
        assert caught.value.message == answer.reason


def test_a_quantized_model_without_its_package_is_reported(store: WeightStore) -> None:
    try:
        import diffq  # noqa: F401
    except ImportError:
        answer = registry.availability("mdx_q", store)
        assert not answer.available
        assert "needs the Python package diffq" in answer.reason
    else:
        pytest.skip("diffq is installed")


def test_auto_uses_the_bundled_model_if_the_best_is_unavailable_and_says_why(store: WeightStore) -> None:
    choice = registry.choose("auto", store)
    assert choice.entry.name == "spleeter_2stems"
    assert choice.substitution.startswith("spleeter_2stems is used in place of htdemucs: 955717e8-8726e21a.th")
    assert "`stemtube models pull htdemucs`" in choice.substitution


def test_auto_fails_clearly_without_any_model(store: WeightStore) -> None:
    with pytest.raises(WeightsMissingError, match=r"955717e8-8726e21a\.th.*; 0d19c1c6"):
        registry.choose("auto", store, ["htdemucs", "mdx"])


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A web server in place of dl.fbaipublicfiles.com, with a tiny htdemucs; gives the folder it serves."""
    folder = tmp_path / "hub"
    folder.mkdir()
    package = write_package(folder, "955717e8", seed=7)
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        url = f"http://127.0.0.1:{server.server_port}/{package.name}"
        monkeypatch.setattr(entries, "_published_urls", lambda: {"955717e8": url})
        monkeypatch.setattr(entries, "entries", lambda: (entries.published("htdemucs", cost=1.0, rank=10),))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield folder
        server.shutdown()


def test_auto_fetches_the_best_model_and_runs_it(hub: Path, tmp_path: Path) -> None:
    store = WeightStore(tmp_path / "models", hub_timeout=2)
    choice = registry.choose("auto", store)
    assert (choice.entry.name, choice.substitution) == ("htdemucs", "")
    assert "can be fetched from 127.0.0.1" in registry.availability("htdemucs", store).reason

    fetched: list[float] = []
    separator = registry.load(choice.entry.name, store, fetched.append)

    assert fetched[-1] == 1.0
    assert list((store.root / "demucs").glob("955717e8-*.th"))
    assert "its weights are in the models directory" in registry.availability("htdemucs", store).reason
    assert whole(separator, song(0.6), Options())["vocals"].shape == song(0.6).shape


def test_a_damaged_package_is_refused_by_its_checksum(tmp_path: Path) -> None:
    store = WeightStore(tmp_path, offline=True)
    (tmp_path / "demucs").mkdir()
    path = write_package(tmp_path / "demucs", "dddd4444", seed=0)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(PreconditionError, match="Invalid checksum") as caught:
        registry.load("dddd4444", store)
    assert str(tmp_path) not in caught.value.message


def test_a_model_for_another_number_of_channels_is_refused(tmp_path: Path) -> None:
    (tmp_path / "demucs").mkdir()
    write_package(tmp_path / "demucs", "eeee5555", seed=0, audio_channels=1)
    with pytest.raises(PreconditionError, match="1 channels, not 2"):
        registry.load("eeee5555", WeightStore(tmp_path, offline=True))


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [
        ("mine.th", b"not a model", "mine.th cannot be read as a demucs model"),
        ("mine.yaml", b"weights: 3", "mine.yaml is not a demucs bag"),
        ("mine.yaml", b"models: [nowhere]", "nowhere.th of the model mine is not here"),
    ],
)
def test_a_faulty_user_model_is_listed_with_its_fault(tmp_path: Path, file: str, content: bytes, why: str) -> None:
    (tmp_path / "demucs").mkdir()
    (tmp_path / "demucs" / file).write_bytes(content)
    store = WeightStore(tmp_path, offline=True)
    assert "mine" in registry.names(store)
    answer = registry.availability("mine", store)
    assert not answer.available
    assert why in answer.reason


class MaliciousPickle:
    def __reduce__(self) -> tuple[Any, ...]:
        return (sys.exit, ("code of a model file was run",))


def test_listing_models_runs_none_of_their_code(tmp_path: Path) -> None:
    (tmp_path / "demucs").mkdir()
    package = {"klass": MaliciousPickle(), "args": (), "kwargs": {"sources": ["a", "b"]}, "state": {}}
    with zipfile.ZipFile(tmp_path / "demucs" / "mine.th", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(package))
    assert registry.entry("mine", WeightStore(tmp_path, offline=True)).stems == ("a", "b")


def test_listing_models_does_not_load_torch(store: WeightStore) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from services.common.weights.store import WeightStore\n"
        "from services.separation.models import registry\n"
        f"store = WeightStore(Path({str(store.root)!r}), offline=True)\n"
        "print('torch' in sys.modules, *(n for n in registry.names(store) if registry.availability(n, store).present))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    loaded_torch, *present = result.stdout.split()
    assert loaded_torch == "False"
    assert {"spleeter_2stems", "duet", "cccc3333"} <= set(present)
    assert "htdemucs" not in present
