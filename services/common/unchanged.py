"""Measures how long values stay unchanged, even if the clocks of this machine or of others are set."""

import time
from collections.abc import Mapping
from typing import Generic, TypeVar

SETTLED_SECONDS = 1800.0
"""Something that has expired by the wall clock is removed only after a process has seen it expired and unchanged for
this long (or for its whole lifetime, if that is shorter): a clock that jumps makes everything seem old at once."""
K = TypeVar("K")
V = TypeVar("V")


class Unchanged(Generic[K, V]):
    """Measures how long values stay the same, by this process's monotonic clock.

    It knows nothing of the time before the process started.
    """

    def __init__(self) -> None:
        self._since: dict[K, tuple[V, float]] = {}

    def seconds(self, present: Mapping[K, V]) -> dict[K, float]:
        """For how many seconds each value has been the same at every call.

        Args:
            present: all current values.
        """
        now = time.monotonic()
        before, self._since = self._since, {}
        for key, value in present.items():
            known = before.get(key)
            self._since[key] = known if known and known[0] == value else (value, now)
        return {key: now - since for key, (_, since) in self._since.items()}

    def since(self, present: Mapping[K, V], seconds: float) -> dict[K, V]:
        """The values that have been the same for at least `seconds`; see the method `seconds`."""
        found = self.seconds(present)
        return {key: value for key, value in present.items() if found[key] >= seconds}
