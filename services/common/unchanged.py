"""For how long things stay as they are, whatever happens to the clocks of this machine and of others."""

import time
from collections.abc import Mapping
from typing import Generic, TypeVar

SETTLED_SECONDS = 1800.0
"""What has expired by the time of day is removed only once a process has seen it so, unchanged, for this time (or for
its whole age, if that is shorter): a clock that jumps makes everything old at once, even what somebody works on."""
K = TypeVar("K")
V = TypeVar("V")


class Unchanged(Generic[K, V]):
    """Measures for how long values stay the same, by this process's own time: clocks may be set.

    It knows nothing of the time before the process started.
    """

    def __init__(self) -> None:
        self._since: dict[K, tuple[V, float]] = {}

    def seconds(self, present: Mapping[K, V]) -> dict[K, float]:
        """For how many seconds of looking at them values have been the same.

        Args:
            present: all values that there are now.
        """
        now = time.monotonic()
        before, self._since = self._since, {}
        for key, value in present.items():
            known = before.get(key)
            self._since[key] = known if known and known[0] == value else (value, now)
        return {key: now - since for key, (_, since) in self._since.items()}

    def since(self, present: Mapping[K, V], seconds: float) -> dict[K, V]:
        """The values that have been the same for at least so many seconds; see `seconds`."""
        found = self.seconds(present)
        return {key: value for key, value in present.items() if found[key] >= seconds}
