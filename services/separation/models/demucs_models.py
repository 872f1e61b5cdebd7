"""Demucs: waveform and hybrid networks, run by the package `demucs`.

After A. Défossez: "Hybrid Spectrogram and Waveform Source Separation", ISMIR MDX workshop 2021, and S. Rouard,
F. Massa, A. Défossez: "Hybrid Transformers for Music Source Separation", ICASSP 2023.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from demucs.apply import BagOfModels, apply_model
from demucs.pretrained import REMOTE_ROOT, get_model
from demucs.repo import AnyModelRepo, BagOnlyRepo, LocalRepo, ModelLoadingError

from services.common.errors import PreconditionError
from services.separation.models.base import Entry, Options, Progress, Samples, check_mix


class DemucsSeparator:
    """A `Separator` around a demucs model or bag of models."""

    def __init__(self, model: Any, device: str = "cpu") -> None:
        if model.audio_channels != 2:
            raise PreconditionError(f"the model takes {model.audio_channels} channels, not 2", "WEIGHTS_UNUSABLE")
        self._device = torch.device(device)
        self._model = model.eval().to(self._device)
        self.stems = tuple(str(source) for source in model.sources)
        self.sample_rate_hz = int(model.samplerate)

    @torch.inference_mode()
    def separate(self, mix: Samples, options: Options, progress: Progress) -> dict[str, Samples]:
        """See `Separator.separate`. Scales the mix as demucs' own `Separator` does."""
        check_mix(mix)
        progress(0.0)
        if not mix.size:
            progress(1.0)
            return {stem: mix.copy() for stem in self.stems}
        wave = torch.tensor(mix)
        reference = wave.mean(dim=0)
        mean, std = reference.mean(), reference.std(correction=min(1, len(reference) - 1)) + 1e-8
        wave.sub_(mean).div_(std)
        stems = apply_model(
            self._model,
            wave[None],
            shifts=options.shifts,
            split=True,
            overlap=options.overlap,
            device=self._device,
            callback=_progress_callback(self._model, mix.shape[1], options, progress),
        )[0]
        stems.mul_(std).add_(mean)
        progress(1.0)
        return dict(zip(self.stems, stems.numpy(), strict=True))


def _progress_callback(
    model: Any, samples: int, options: Options, progress: Progress
) -> Callable[[dict[str, Any]], None]:
    """Turns demucs' reports of segments into the fraction done.

    Demucs runs every model of a bag over every shift over all segments in order and reports each segment's start and
    end. All models count alike. A shift lengthens the song by up to half a second, which is not counted.
    """
    models: list[Any] = list(model.models) if isinstance(model, BagOfModels) else [model]
    strides = [int((1 - options.overlap) * int(one.samplerate * one.segment)) for one in models]
    shifts = max(1, options.shifts)

    def report(state: dict[str, Any]) -> None:
        index = state["model_idx_in_bag"]
        offset = state["segment_offset"] + (strides[index] if state["state"] == "end" else 0)
        in_shift = min(1.0, offset / samples)
        progress((index + (state["shift_idx"] + in_shift) / shifts) / len(models))

    return report


def load(entry: Entry, paths: tuple[Path, ...], device: str) -> DemucsSeparator:
    """Loads a published model, or one of the user's own, from the folder that holds `paths`.

    Demucs packages are pickles, which may run code when loaded: those of the hub are pinned by their checksums, and the
    user's own are the operator's to trust.

    Raises:
        PreconditionError: demucs cannot make a model of the files.
    """
    folder = paths[0].parent
    try:
        if (REMOTE_ROOT / f"{entry.name}.yaml").is_file():
            packages = LocalRepo(folder)
            model = AnyModelRepo(packages, BagOnlyRepo(REMOTE_ROOT, packages)).get_model(entry.name)
        else:
            model = get_model(entry.name, repo=folder)
    except (ModelLoadingError, AssertionError, RuntimeError, LookupError, TypeError) as error:
        why = str(error).replace(f"{folder}/", "")
        raise PreconditionError(f"demucs cannot load {entry.name}: {why}", "WEIGHTS_UNUSABLE") from error
    except SystemExit as error:  # how demucs reports that an optional package is missing
        raise PreconditionError(
            f"demucs cannot load {entry.name}: it needs the package diffq", "WEIGHTS_UNUSABLE"
        ) from error
    return DemucsSeparator(model, device)
