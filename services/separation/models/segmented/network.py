"""The interface of networks: segments in, sources out. A network decides how and on which device it computes."""

from typing import Protocol

from torch import Tensor


class Network(Protocol):
    """A network in memory, ready for many calls from one thread at a time."""

    @property
    def segment_samples(self) -> int:
        """Length of the segments that it takes."""
        ...

    def prepare(self, segments: int) -> None:
        """Prepares for a song with this number of segments."""
        ...

    def valid_length(self, samples: int) -> int:
        """The length, at least `samples`, to which a segment of `samples` must be widened before it is passed in."""
        ...

    def __call__(self, batch: Tensor) -> Tensor:
        """Separates segments.

        Args:
            batch: float32 [segments, 2, samples] on the CPU, at the level of the separator's `Cutting`. `samples` is a
                valid length.

        Returns:
            float32 [segments, sources, 2, samples] on any device. It may have more samples than the batch, equally many
            at both ends.
        """
        ...
