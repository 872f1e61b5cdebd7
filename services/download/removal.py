"""Removing objects that no track needs, with what was derived from them."""

from collections.abc import Iterable

from services.common import audio
from services.common.storage import ObjectStore
from services.download.store import Library

DERIVED = "derived"


def derived_key(key: str, audio_format: str) -> str:
    """The key of an object's sound in another format."""
    return f"{DERIVED}/{key}.{audio_format}"


def source_key(derived: str) -> str:
    """The key of the object that one in another format was made of."""
    return derived.removeprefix(f"{DERIVED}/").rpartition(".")[0]


class Remover:
    """Removes objects, unless a track needs them after all by then."""

    def __init__(self, objects: ObjectStore, library: Library) -> None:
        self._objects = objects
        self._library = library

    async def remove(self, keys: Iterable[str]) -> int:
        """Removes those of these objects that no track needs.

        Returns:
            Their number.
        """
        removed = 0
        for key in keys:
            async with self._library.deciding_on(key) as is_used:
                if not is_used:
                    await self._objects.delete(key)
            if not is_used:
                removed += 1
                for name in audio.FORMATS:
                    await self._objects.delete(derived_key(key, name))
        return removed
