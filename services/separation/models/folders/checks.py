"""What families check of a model's folder, with messages that name what differs."""

import re
from collections.abc import Sequence
from typing import Any

from services.separation.models.folders.faults import FolderError
from services.separation.models.folders.folder import ModelFolder
from services.separation.models.folders.shapes import Shape, Shapes


def compare_shapes(folder: ModelFolder, expected: Shapes) -> None:
    """Compares a checkpoint with the tensors that its configuration asks for.

    Raises:
        FolderError: they differ; the message names the tensors.
    """
    found = folder.shapes
    missing = [name for name in expected if name not in found]
    surplus = [name for name in found if name not in expected]
    other = [
        f"{name} ({_shape(found[name])} in place of {_shape(shape)})"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    faults = [
        f"{label} {len(names)} of {total}: {', '.join(names[:3])}{', …' if len(names) > 3 else ''}"
        for label, names, total in (
            ("tensors that are missing,", missing, len(expected)),
            ("tensors of another shape,", other, len(expected)),
            ("tensors that the configuration does not ask for,", surplus, len(found)),
        )
        if names
    ]
    if faults:
        raise FolderError(f"{folder.checkpoint.name} does not fit {folder.config_name}: {'; '.join(faults)}")


def _shape(shape: Shape) -> str:
    return "x".join(str(size) for size in shape) or "a number"


def check_keys(folder: ModelFolder, section: str, known: Sequence[str]) -> None:
    """Checks that a family knows every key of a section.

    Raises:
        FolderError: there are keys that it does not know, so the network may be another one.
    """
    if unknown := sorted(str(key) for key in folder.section(section) if key not in known):
        raise FolderError(
            f"{folder.config_name}: `{section}` has keys that are not known: {', '.join(unknown)}; the network may be "
            "a variant that is not supported"
        )


def stems_of(folder: ModelFolder, outputs: int) -> tuple[str, ...]:
    """The names of a network's outputs by `training.target_instrument`, else `training.instruments`, in lower case.

    Args:
        folder: the model's folder.
        outputs: number of stems that the network gives.

    Raises:
        FolderError: there is another number of names, or one cannot be used.
    """
    names = instruments_of(folder)
    target = folder.section("training").get("target_instrument")
    if target:
        names = (stem_name(target),)
    if len(names) != outputs:
        listed = ", ".join(names) or "none"
        raise FolderError(
            f"{folder.config_name}: the network gives {outputs} stem(s), but `training` names {len(names)} ({listed}); "
            "check num_stems, instruments and target_instrument"
        )
    if len(set(names)) < len(names):
        raise FolderError(f"{folder.config_name}: `training.instruments` has the same name twice")
    return names


def instruments_of(folder: ModelFolder) -> tuple[str, ...]:
    """All names in `training.instruments`, also of those that the network does not give.

    Raises:
        FolderError: they are not a list of names.
    """
    names = folder.section("training").get("instruments") or []
    if not isinstance(names, list):
        raise FolderError(f"{folder.config_name}: `training.instruments` is not a list")
    return tuple(stem_name(name) for name in names)


def residual_of(folder: ModelFolder, stem: str) -> str:
    """The name of the rest of the mix for a model with one stem.

    It is the second of two instruments of the configuration. As the complement of vocals, `other` becomes
    `instrumental`, because it is not the `other` of four stems.
    """
    others = [name for name in instruments_of(folder) if name != stem]
    rest = others[0] if len(others) == 1 else "other"
    return {"vocals": "instrumental", "instrumental": "vocals"}.get(stem, rest) if rest == "other" else rest


def stem_name(name: Any) -> str:
    """A name of a stem as configurations write it, in lower case and with underscores.

    The prefix `no_` is taken by the mix without a stem, so `No dry` becomes `other`.

    Raises:
        FolderError: it is not a name.
    """
    plain = re.sub(r"[^a-z0-9]+", "_", str(name).lower()).strip("_")
    if not plain:
        raise FolderError(f"{name!r} is not the name of a stem")
    return "other" if plain.startswith("no_") else plain
