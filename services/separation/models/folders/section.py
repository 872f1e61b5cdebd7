"""Reads the values of a configuration's section, with messages that name the key and what it must be."""

from collections.abc import Mapping
from typing import Any

from services.separation.models.folders.faults import FolderError
from services.separation.models.folders.folder import ModelFolder

LARGEST = 1 << 24


class Section:
    """A section of a configuration.

    Its methods return the value of a key, or the default if the key is missing or null; without a default they raise
    `FolderError`, as they do for a value of another kind.
    """

    def __init__(self, folder: ModelFolder, name: str) -> None:
        """Chooses the section `name`; a missing one has no keys."""
        self._values: Mapping[str, Any] = folder.section(name)
        self._where = f"{folder.config_name}: `{name}."

    def __contains__(self, key: str) -> bool:
        return self._values.get(key) is not None

    def number(self, key: str, default: int | None = None, least: int = 1, most: int = LARGEST) -> int:
        """A whole number from `least` to `most`."""
        value = self._get(key, default)
        if type(value) is not int or not least <= value <= most:
            raise self._fault(key, f"a whole number from {least} to {most}", value)
        return value

    def decimal(self, key: str, default: float | None = None) -> float:
        """A number above 0."""
        value = self._get(key, default)
        if type(value) not in (int, float) or not 0 < value <= LARGEST:
            raise self._fault(key, "a number above 0", value)
        return float(value)

    def flag(self, key: str, default: bool | None = None) -> bool:
        """True or false."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self._fault(key, "true or false", value)
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """A text."""
        value = self._get(key, default)
        if not isinstance(value, str):
            raise self._fault(key, "a text", value)
        return value

    def numbers(self, key: str, count: int | None = None, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """A list of whole numbers above 0, `count` of them if it is given."""
        values = self._list(key, count, default)
        if not all(type(value) is int and 0 < value <= LARGEST for value in values):
            raise self._fault(key, "a list of whole numbers above 0", values)
        return tuple(values)

    def decimals(
        self, key: str, count: int | None = None, default: tuple[float, ...] | None = None
    ) -> tuple[float, ...]:
        """A list of numbers above 0, `count` of them if it is given."""
        values = self._list(key, count, default)
        if not all(type(value) in (int, float) and 0 < value <= LARGEST for value in values):
            raise self._fault(key, "a list of numbers above 0", values)
        return tuple(float(value) for value in values)

    def _list(self, key: str, count: int | None, default: tuple[Any, ...] | None) -> list[Any]:
        values = self._get(key, default)
        if not isinstance(values, list | tuple) or (count is not None and len(values) != count):
            raise self._fault(key, "a list" if count is None else f"a list of {count} values", values)
        return list(values)

    def _get(self, key: str, default: Any) -> Any:
        value = self._values.get(key)
        return default if value is None else value

    def _fault(self, key: str, kind: str, value: Any) -> FolderError:
        shown = "it is missing" if value is None else f"it is {value!r}"
        return FolderError(f"{self._where}{key}` must be {kind}; {shown}")
