"""Separations in one piece, for tests."""

import numpy as np

from services.separation.models.base import Options, Progress, Samples, Separator, join


def ignore(_fraction: float) -> None:
    pass


def split(
    separator: Separator, mix: Samples, options: Options | None = None, progress: Progress = ignore
) -> dict[str, Samples]:
    """The stems in one piece; checks that they come in order and without gaps."""
    stretches, end = [], 0
    for stretch in separator.separate(mix, options or Options(), progress):
        assert stretch.start == end
        assert {piece.dtype for piece in stretch.stems.values()} == {np.dtype(np.float32)}
        lengths = {piece.shape[1] for piece in stretch.stems.values()}
        assert len(lengths) == 1
        end += lengths.pop()
        stretches.append(stretch)
    assert end == mix.shape[1]
    return join(stretches, separator.stems, end)
