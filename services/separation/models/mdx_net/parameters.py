"""The parameters of MDX-Net models, which their ONNX files do not have.

They come from a configuration, or from the list of Ultimate Vocal Remover (`published.json`: the facts of
TRvlvr/application_data, mdx_model_data/model_data_new.json), which knows models by the MD5 of the last 10,000 KiB.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

HOP = 1024
"""Samples between the starts of neighbouring frames, of all models."""
HASHED_BYTES = 10_000 * 1024
OPPOSITES = {"vocals": "instrumental", "instrumental": "vocals", "other": "rest"}
KEYS = ("mdx_n_fft_scale_set", "mdx_dim_f_set", "mdx_dim_t_set", "compensate", "primary_stem")


@dataclass(frozen=True, slots=True)
class Parameters:
    """What must be known of a model.

    Args:
        n_fft: samples in a frame.
        bins: number of bins that are used.
        frames: number of frames.
        compensate: factor by which the stem is multiplied before it is subtracted from the mix.
        stem: its name as in the list, such as `Vocals` or `No Crowd`.
    """

    n_fft: int
    bins: int
    frames: int
    compensate: float
    stem: str

    @property
    def stems(self) -> tuple[str, str]:
        """Our names of the stem, and of the rest of the mix."""
        name = self.stem.strip().lower().replace(" ", "_")
        without = name.removeprefix("no_")
        return ("other", without) if without != name else (name, OPPOSITES.get(name, "other"))


def read_parameters(values: Mapping[str, Any]) -> Parameters:
    """Reads parameters in the form of the list: FFT length, bins, binary logarithm of the frames, factor, stem.

    Raises:
        ValueError: a value is missing or of another kind; the message names it.
    """
    for key in KEYS:
        value = values.get(key)
        kind = str if key == "primary_stem" else float if key == "compensate" else int
        if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else kind) or not value:
            given = "is missing" if value is None else f"cannot be {value!r}"
            raise ValueError(f"`{key}` {given}")
    n_fft, bins, octaves = (int(values[key]) for key in KEYS[:3])
    if not 0 < bins <= n_fft // 2 + 1:
        raise ValueError(f"`mdx_dim_f_set` must be at most half of `mdx_n_fft_scale_set` = {n_fft}, not {bins}")
    if not 4 <= octaves <= 16:
        raise ValueError(f"`mdx_dim_t_set` is the binary logarithm of the frames, such as 8, not {octaves}")
    if HOP * (2**octaves - 1) <= n_fft:
        raise ValueError(f"`mdx_dim_t_set` {octaves} is too small for `mdx_n_fft_scale_set` {n_fft}")
    return Parameters(n_fft, bins, 2**octaves, float(values["compensate"]), str(values["primary_stem"]))


def known_parameters(path: Path) -> Parameters | None:
    """The parameters of a published model; None if the list does not have it."""
    values = _published().get(end_md5(path))
    return read_parameters(values) if values else None


def end_md5(path: Path) -> str:
    """The MD5 of the last 10,000 KiB of a file, by which the list knows models."""
    stat = path.stat()
    return _end_md5(path, stat.st_size, stat.st_mtime_ns)


@cache
def _end_md5(path: Path, size: int, _changed_ns: int) -> str:
    with path.open("rb") as file:
        file.seek(-min(size, HASHED_BYTES), os.SEEK_END)
        return hashlib.md5(file.read(), usedforsecurity=False).hexdigest()


@cache
def _published() -> dict[str, dict[str, Any]]:
    published: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "published.json").read_text())
    return published
