"""Groups the sections of a song that sound alike."""

import numpy as np

from services.analysis.backends.structure.bars import Floats

# Sections are of one kind if the mean likeness of their bars is at least this: 0 is the average of the song, 1 is
# equal. Pairwise F on 60 synthesised songs is 0.87 (0.95 with the true boundaries), and the same within 0.01 from 0.4
# to 0.5.
_ALIKE = 0.45


def section_groups(likeness: Floats, starts: list[int]) -> list[int]:
    """The kind of each section, numbered from 0 in order of appearance.

    The likeness of two sections is that of their bars, with the shorter section at its best place in the longer one.

    Args:
        likeness: [bars, bars], see `bars.Bars`.
        starts: the bars where sections begin.
    """
    from scipy.cluster.hierarchy import fcluster, linkage

    count = len(starts)
    if count < 2:
        return [0] * count
    spans = list(zip(starts, [*starts[1:], len(likeness)], strict=True))
    distances = np.array([1 - _fit(likeness, spans[i], spans[j]) for i in range(count) for j in range(i + 1, count)])
    kinds = fcluster(linkage(distances, "average"), 1 - _ALIKE, "distance")
    order = list(dict.fromkeys(kinds.tolist()))
    return [order.index(kind) for kind in kinds.tolist()]


def _fit(likeness: Floats, one: tuple[int, int], other: tuple[int, int]) -> float:
    (start, end), (first, last) = sorted((one, other), key=lambda span: span[1] - span[0], reverse=True)
    block = likeness[start:end, first:last]
    length = last - first
    return max(float(np.trace(block[shift : shift + length])) / length for shift in range(end - start - length + 1))
