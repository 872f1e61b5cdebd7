"""Models that operators drop into MODELS_DIR/separation/NAME: recognised, listed, and refused with what differs."""

import pickle
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from services.common.errors import PreconditionError, WeightsMissingError
from services.common.weights.store import WeightStore
from services.separation.models import registry
from services.separation.models.base import Options, join
from services.separation.models.folders.config import read_config
from services.separation.models.folders.faults import FolderError
from services.separation.models.folders.shapes import read_shapes
from services.separation.models.folders.tensors import load_tensors
from tests.separation.roformers import BS, CHUNK, MEL, config_text, in_torch, reference, write_folder

FOUR = {"instruments": ["drums", "bass", "other", "vocals"], "target_instrument": None}


@pytest.fixture(autouse=True)
def _in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    in_torch(monkeypatch)


def store(tmp_path: Path) -> WeightStore:
    return WeightStore(tmp_path, offline=True)


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
@pytest.mark.parametrize("model", [BS, MEL], ids=["bs", "mel"])
def test_a_folder_is_a_model_that_can_be_chosen_and_run(tmp_path: Path, model: dict[str, Any], suffix: str) -> None:
    write_folder(tmp_path, "my-model_v1.2", model, suffix=suffix)
    models = store(tmp_path)
    assert registry.names(models)[-1] == "my-model_v1.2"
    entry = registry.choose("my-model_v1.2", models).entry
    assert (entry.family, entry.stems, entry.overlap) == ("roformer", ("vocals", "instrumental"), 0.5)
    found = registry.availability(entry.name, models)
    assert found.present
    assert found.size_bytes > 100_000
    separator = registry.load(entry.name, models)
    mix = np.random.default_rng(0).normal(0, 0.1, (2, CHUNK)).astype("f4")
    stems = join(separator.separate(mix, Options(), lambda _: None), entry.stems)
    assert all(0 < np.abs(stem).max() < 9 for stem in stems.values())


@pytest.mark.parametrize(
    ("stems", "training", "expected"),
    [
        (4, FOUR, ("drums", "bass", "other", "vocals")),
        (1, FOUR | {"target_instrument": "vocals"}, ("vocals", "instrumental")),
        (1, FOUR | {"target_instrument": "drums"}, ("drums", "other")),
        (1, {"instruments": ["Vocals", "Instrumental"], "target_instrument": "Instrumental"}, None),
        (2, {"instruments": ["Vocals", "Instrumental"], "target_instrument": None}, ("vocals", "instrumental")),
        (1, {"instruments": ["vocals"]}, ("vocals", "instrumental")),
        (1, {"instruments": ["dry", "No dry"], "target_instrument": "dry"}, ("dry", "other")),
        (1, {"instruments": ["Lead Vocals", "Backing Vocals"], "target_instrument": "Lead Vocals"}, None),
    ],
)
def test_stems_have_the_names_of_the_configuration(
    tmp_path: Path, stems: int, training: dict[str, Any], expected: tuple[str, ...] | None
) -> None:
    model = BS | {"num_stems": stems}
    write_folder(tmp_path, "mine", model, config_text(model, training))
    names = {"Instrumental": ("instrumental", "vocals"), "Lead Vocals": ("lead_vocals", "backing_vocals")}
    entry = registry.entry("mine", store(tmp_path))
    assert entry.fault == ""
    assert entry.stems == (expected or names[training["target_instrument"]])


def test_the_version_follows_the_files(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, "mine", BS)
    models = store(tmp_path)
    first = registry.entry("mine", models).version
    assert registry.entry("mine", models).version == first
    shutil.copytree(folder, folder.with_name("copy"))
    assert registry.entry("copy", models).version == first
    torch.save(reference(BS, seed=1).state_dict(), folder / "model.ckpt")
    second = registry.entry("mine", models).version
    (folder / "config.yaml").write_text(config_text(BS, num_overlap=4))
    assert len({first, second, registry.entry("mine", models).version}) == 3
    assert registry.entry("mine", models).overlap == 0.75


def test_digests_of_large_files_are_remembered_for_other_processes(tmp_path: Path) -> None:
    write_folder(tmp_path, "mine", BS)
    version = registry.entry("mine", store(tmp_path)).version
    memory = tmp_path / "separation/.digests.json"
    assert memory.read_text().count("mine/") == 2
    memory.write_text(memory.read_text().replace(version[-12:], "0" * 12))
    program = (
        "from pathlib import Path; from services.common.weights.store import WeightStore\n"
        "from services.separation.models import registry\n"
        f"print(registry.entry('mine', WeightStore(Path({str(tmp_path)!r}), offline=True)).version)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == version[:-12] + "0" * 12
    memory.write_text("damaged")
    assert registry.entry("mine", store(tmp_path)).version == version


class Burglar:
    def __reduce__(self) -> tuple[Any, ...]:
        return (sys.exit, ("code of a model file was run",))


def spoil(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    tensors = torch.load(path, weights_only=True)
    torch.save(change(tensors), path)


def without(tensors: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: tensor for name, tensor in tensors.items() if name not in names}


def edit(folder: Path, **model: Any) -> None:
    text = config_text(BS | model)
    (folder / "config.yaml").write_text(text)


FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no configuration": (
        lambda folder: (folder / "config.yaml").unlink(),
        "there is no configuration: put the config.yaml of model.ckpt beside it",
    ),
    "no checkpoint": (
        lambda folder: (folder / "model.ckpt").unlink(),
        r"there is no checkpoint: put one of \*.ckpt, \*.safetensors, \*.onnx beside the configuration",
    ),
    "two checkpoints": (
        lambda folder: shutil.copy(folder / "model.ckpt", folder / "older.ckpt"),
        r"there are 2 checkpoints \(model.ckpt, older.ckpt\): keep one",
    ),
    "two configurations": (
        lambda folder: shutil.copy(folder / "config.yaml", folder / "other.yml"),
        r"there are 2 configurations \(config.yaml, other.yml\)",
    ),
    "an object in the configuration": (
        lambda folder: (folder / "config.yaml").write_text("model: !!python/object/apply:os.system [echo]"),
        "config.yaml has a tag in line 1 that would construct an object",
    ),
    "not YAML": (lambda folder: (folder / "config.yaml").write_text("model: [1"), "config.yaml is not valid YAML"),
    "binary": (lambda folder: (folder / "config.yaml").write_bytes(b"\xff\xfe\x00"), "is not a text in UTF-8"),
    "a list": (lambda folder: (folder / "config.yaml").write_text("- 1"), "config.yaml is not a configuration"),
    "too large": (
        lambda folder: (folder / "config.yaml").write_text("#" * (1 << 20) + "\n"),
        "config.yaml is larger than a configuration can be",
    ),
    "another family": (
        lambda folder: (folder / "config.yaml").write_text("model: {act: gelu, norm: BatchNorm, bottleneck: 4}"),
        r"no family of models recognises config.yaml and model.ckpt \(keys of `model`: act, bottleneck, norm\)",
    ),
    "an unknown key": (
        lambda folder: edit(folder, use_hyper_ace=True),
        "config.yaml: `model` has keys that are not known: use_hyper_ace; the network may be a variant",
    ),
    "a missing value": (
        lambda folder: edit(folder, dim=None),
        "config.yaml: `model.dim` must be a whole number from 1 to 16777216; it is missing",
    ),
    "far too many blocks": (
        lambda folder: edit(folder, depth=10**9),
        "`model.depth` must be a whole number from 1 to 100; it is 1000000000",
    ),
    "a text for a number": (lambda folder: edit(folder, heads="8"), "`model.heads` must be a whole number .* is '8'"),
    "a number for a flag": (lambda folder: edit(folder, stereo=2), "`model.stereo` must be true or false; it is 2"),
    "bands that do not fit": (
        lambda folder: edit(folder, freqs_per_bands=(4, 8)),
        "`model.freqs_per_bands` has 12 bins in all; 65 are needed, because stft_n_fft is 128",
    ),
    "a wrong number of stems": (
        lambda folder: (folder / "config.yaml").write_text(config_text(BS, FOUR)),
        r"the network gives 1 stem\(s\), but `training` names 4 \(drums, bass, other, vocals\)",
    ),
    "another depth": (
        lambda folder: edit(folder, depth=1),
        "model.ckpt does not fit config.yaml: tensors that the configuration does not ask for, 22 of 73: "
        r"layers.1.0.layers.0.0.rotary_embed.freqs, .*, …",
    ),
    "another width": (
        lambda folder: edit(folder, dim=32),
        r"tensors of another shape, \d+ of 73: layers.0.0.layers.0.0.norm.gamma \(16 in place of 32\), "
        r"layers.0.0.layers.0.0.to_qkv.weight \(48x16 in place of 48x32\)",
    ),
    "a missing tensor": (
        lambda folder: spoil(folder / "model.ckpt", lambda tensors: without(tensors, "final_norm.gamma")),
        r"tensors that are missing, 1 of 73: final_norm.gamma$",
    ),
    "code in the checkpoint": (
        lambda folder: spoil(folder / "model.ckpt", lambda tensors: tensors | {"burglar": Burglar()}),
        "model.ckpt contains sys.exit: reading it would run code in it, which is never done. Load it where you trust",
    ),
    "numbers of NumPy": (
        lambda folder: spoil(folder / "model.ckpt", lambda tensors: tensors | {"loss": np.float64(1)}),
        "model.ckpt contains numpy._core.multiarray.scalar: reading it would run code in it",
    ),
    "a broken download": (
        lambda folder: (folder / "model.ckpt").write_bytes((folder / "model.ckpt").read_bytes()[:100_000]),
        "model.ckpt is damaged, or not a checkpoint of torch",
    ),
    "an empty checkpoint": (lambda folder: torch.save({}, folder / "model.ckpt"), "model.ckpt has no tensors"),
    "a page of a web site": (
        lambda folder: (folder / "model.ckpt").write_text("<html>404</html>"),
        "model.ckpt is damaged, or not a checkpoint of torch",
    ),
    "a name with a space": (lambda folder: folder.rename(folder.with_name("a b")), "the folder's name may have"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_wrong_pair_is_listed_with_what_differs(tmp_path: Path, case: str) -> None:
    break_it, expected = FAULTS[case]
    write_folder(tmp_path, "good", BS)
    break_it(write_folder(tmp_path, "bad", BS))
    models = store(tmp_path)
    (name,) = set(registry.names(models)) - {"good", *registry.names()}
    answer = registry.availability(name, models)
    assert not answer.available
    assert answer.reason.startswith(f"separation/{name} of the models directory: ")
    with pytest.raises(WeightsMissingError, match=expected) as caught:
        registry.load(name, models)
    assert caught.value.message == answer.reason
    assert str(tmp_path) not in answer.reason
    # The others go on.
    assert registry.availability("good", models).available
    assert registry.choose("auto", models).entry.name == "spleeter_2stems"


def test_the_tags_of_tuples_become_lists(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("a: !!python/tuple [1, 2]\nb: !!python/tuple\n  - 3\n  - !!python/tuple [4]\n")
    assert read_config(path) == {"a": [1, 2], "b": [3, [4]]}
    path.write_text(yaml.dump({"a": (1, (2, 3))}))
    assert read_config(path) == {"a": [1, [2, 3]]}


@pytest.mark.parametrize("way", ["plain", "state", "state_dict", "model_state_dict", "module", "legacy", "half"])
def test_tensors_are_found_where_training_programs_put_them(tmp_path: Path, way: str) -> None:
    tensors = reference(BS).state_dict()
    content: Any = {"epoch": 3, "best": 1.5, way: tensors, "optimizer": {"lr": [1e-4]}}
    if way in ("plain", "legacy"):
        content = tensors
    elif way == "module":
        content = {f"module.{name}": tensor for name, tensor in tensors.items()}
    elif way == "half":
        content = {name: tensor.half() for name, tensor in tensors.items()}
    path = tmp_path / "model.ckpt"
    torch.save(content, path, _use_new_zipfile_serialization=way != "legacy")
    shapes, loaded = read_shapes(path), load_tensors(path)
    assert shapes == {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    assert loaded.keys() == shapes.keys()
    assert all(tensor.dtype == torch.float32 for tensor in loaded.values())
    torch.testing.assert_close(loaded["final_norm.gamma"], tensors["final_norm.gamma"], atol=1e-3, rtol=1e-3)


def test_a_checkpoint_without_the_bytes_of_a_tensor_is_damaged(tmp_path: Path) -> None:
    import zipfile

    whole, part = tmp_path / "model.ckpt", tmp_path / "part.ckpt"
    torch.save({"weight": torch.ones(9), "bias": torch.ones(3)}, whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(part, "w") as target:
        for name in source.namelist():
            if not name.endswith("/data/1"):
                target.writestr(name.replace("model/", "part/"), source.read(name))
    with pytest.raises(FolderError, match=r"part.ckpt is damaged: the numbers of bias are missing; fetch it again"):
        read_shapes(part)


@pytest.mark.parametrize(
    "content", [b"", struct.pack("<Q", 1 << 40), struct.pack("<Q", 9) + b"not json!", struct.pack("<Q", 2) + b"[]"]
)
def test_a_damaged_safetensors_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(FolderError, match=r"model.safetensors is damaged, or not a safetensors file"):
        read_shapes(path)


def test_a_short_safetensors_file_is_named(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, "mine", BS, suffix=".safetensors")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert "does not have the length that it states" in registry.availability("mine", store(tmp_path)).reason


def test_files_that_change_after_the_listing_are_refused_when_they_are_loaded(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, "mine", BS)
    models = store(tmp_path)
    entry = registry.entry("mine", models)
    spoil(folder / "model.ckpt", lambda tensors: without(tensors, "final_norm.gamma"))
    from services.separation.models.base import CPU
    from services.separation.models.roformer.separator import load

    with pytest.raises(PreconditionError, match=r"mine cannot be loaded: model.ckpt does not fit config.yaml"):
        load(entry, (folder / "config.yaml", folder / "model.ckpt"), CPU)
    (folder / "model.ckpt").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(PreconditionError, match=r"model.ckpt cannot be read as a checkpoint"):
        load_tensors(folder / "model.ckpt")


def test_listing_folders_does_not_load_torch(tmp_path: Path) -> None:
    write_folder(tmp_path, "one", BS)
    write_folder(tmp_path, "two", MEL, suffix=".safetensors")
    program = (
        "import sys; from pathlib import Path; from services.common.weights.store import WeightStore\n"
        "from services.separation.models import registry\n"
        f"store = WeightStore(Path({str(tmp_path)!r}), offline=True)\n"
        "present = [name for name in registry.names(store) if registry.availability(name, store).present]\n"
        "print('torch' in sys.modules, *present)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == "False"
    assert done.stdout.split()[-2:] == ["one", "two"]
