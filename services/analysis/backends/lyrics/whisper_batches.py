"""Batches for CTranslate2: groups items that can be computed together, as many as fit into memory."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Found = TypeVar("Found")

# In CTranslate2's error for a GPU; on the CPU it raises MemoryError.
OUT_OF_MEMORY = "out of memory"


def batches_by_length(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Groups indexes of items with equal length, at most `size`; CTranslate2 requires prompts of equal length."""
    indexes: defaultdict[int, list[int]] = defaultdict(list)
    for index, length in enumerate(lengths):
        indexes[length].append(index)
    for group in indexes.values():
        yield from (group[start : start + size] for start in range(0, len(group), size))


def halved_until_it_fits(compute: Callable[[Sequence[Item]], list[Found]], batch: Sequence[Item]) -> list[Found]:
    """The results of `compute` for each item of a batch; halves the batch while it does not fit into memory.

    Raises:
        RuntimeError, MemoryError: not even one item fits.
    """
    try:
        return compute(batch)
    except (RuntimeError, MemoryError) as error:
        half = len(batch) // 2
        if not half or not (isinstance(error, MemoryError) or OUT_OF_MEMORY in str(error)):
            raise
    return halved_until_it_fits(compute, batch[:half]) + halved_until_it_fits(compute, batch[half:])
