"""Reads YAML configurations of models as training programs write them, without constructing objects."""

from pathlib import Path
from typing import Any

import yaml

from services.separation.models.folders.faults import FolderError

MAX_BYTES = 1 << 20
TUPLE = "tag:yaml.org,2002:python/tuple"


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no types
    """Builds plain values. `!!python/tuple` becomes a list; other Python tags are errors."""


_Loader.add_constructor(TUPLE, yaml.SafeLoader.construct_yaml_seq)


def read_config(path: Path) -> dict[str, Any]:
    """Reads a configuration.

    Args:
        path: a YAML file of at most 1 MiB.

    Returns:
        Its sections by name, of plain dicts, lists, texts, numbers and booleans.

    Raises:
        FolderError: the file is no such configuration.
    """
    if path.stat().st_size > MAX_BYTES:
        raise FolderError(f"{path.name} is larger than a configuration can be ({MAX_BYTES} bytes)")
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except UnicodeDecodeError as error:
        raise FolderError(f"{path.name} is not a text in UTF-8") from error
    except yaml.constructor.ConstructorError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise FolderError(
            f"{path.name} has a tag in line {line} that would construct an object; only plain values and "
            f"!!python/tuple are read ({error.problem})"
        ) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise FolderError(f"{path.name} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict):
        raise FolderError(f"{path.name} is not a configuration: it must have sections, such as `model` and `training`")
    return {str(key): value for key, value in config.items()}
