"""The interface of networks: segments in, sources out. A network chooses how and on which device it computes."""

from typing import Protocol

from torch import Tensor


class Network(Protocol):
    """A network in memory, ready for many calls from one thread at a time."""

    @property
    def segment_samples(self) -> int:
        """Length of the segments that a song is cut into for it."""
        ...

    def prepare(self, segments: int) -> None:
        """Called before a song with the number of its segments."""
        ...

    def valid_length(self, samples: int) -> int:
        """The length, at least `samples`, that a segment of `samples` must be widened to before it is passed in."""
        ...

    def __call__(self, batch: Tensor) -> Tensor:
        """Separates segments.

        Args:
            batch: float32 [segments, 2, samples] on the CPU, normalised, `samples` being a valid length.

        Returns:
            float32 [segments, sources, 2, at least as many samples, the surplus shared by both ends] on any device.
        """
        ...
