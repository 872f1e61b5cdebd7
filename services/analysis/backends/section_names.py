"""Names for sections of which is only known which ones are alike, how loud and how long they are."""

from collections.abc import Sequence
from string import ascii_uppercase

import numpy as np

NAMES = ("intro", "verse", "pre-chorus", "chorus", "bridge", "outro")


def name_sections(groups: Sequence[int], levels: Sequence[float], durations: Sequence[float]) -> list[str]:
    """A name for each section.

    Popular songs repeat their chorus, and louder than anything else they repeat; what is repeated besides is the
    verse, or a pre-chorus if the chorus always follows; what comes once after a chorus is a bridge. The first and the
    last section are intro and outro where they are not simply one more of a kind. Without a repetition there is
    nothing to go by: then sections get letters, alike ones the same.

    Args:
        groups: sections of one group sound alike.
        levels: in dB.
        durations: in seconds.
    """
    last = len(groups) - 1
    ends = {i for i in (0, last) if _is_end(i, groups, durations)}
    inner = [groups[i] for i in range(len(groups)) if i not in ends]
    repeated = sorted({g for g in inner if inner.count(g) > 1}, key=inner.index)
    if not repeated:
        return _letters(groups)
    chorus = max(repeated, key=lambda g: float(np.mean([x for x, h in zip(levels, groups, strict=True) if h == g])))
    if len(repeated) == 1 and chorus == inner[0]:
        # What a song begins with and comes back to, with no second theme, is its verse.
        roles = {chorus: "verse"}
    else:
        roles = dict.fromkeys(repeated, "verse") | {chorus: "chorus"}
        for group in repeated[1:]:
            if group != chorus and _always_before(group, chorus, groups):
                roles[group] = "pre-chorus"
    first_chorus = next(i for i, g in enumerate(groups) if g == chorus and i not in ends)
    names = [roles.get(g, "bridge" if i > first_chorus else "verse") for i, g in enumerate(groups)]
    for i in ends:
        names[i] = "intro" if i == 0 else "outro"
    return names


def _is_end(i: int, groups: Sequence[int], durations: Sequence[float]) -> bool:
    """Whether the first or last section stands apart: like nothing but the other end, or much shorter than its kind."""
    if len(groups) < 3:
        return False
    alike = [j for j, group in enumerate(groups) if group == groups[i] and j != i]
    if all(j in (0, len(groups) - 1) for j in alike):
        return True
    return durations[i] < 0.75 * float(np.median([durations[j] for j in alike]))


def _always_before(group: int, chorus: int, groups: Sequence[int]) -> bool:
    return all(i + 1 < len(groups) and groups[i + 1] == chorus for i, g in enumerate(groups) if g == group)


def _letters(groups: Sequence[int]) -> list[str]:
    order = list(dict.fromkeys(groups))
    return [ascii_uppercase[order.index(group) % len(ascii_uppercase)] for group in groups]
