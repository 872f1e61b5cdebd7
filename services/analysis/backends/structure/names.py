"""Names sections by their similarity, level and length and, if known, their words."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase

import numpy as np

NAMES = ("intro", "verse", "pre-chorus", "chorus", "bridge", "solo", "instrumental", "outro")
SILENCE = "silence"

# A section is sung if somebody sings in this share of its time; less can be the end of a phrase from the section
# before.
_SUNG = 0.25
# Two texts are the same if they share this part of the shorter one's words. Different passages of five songs share at
# most 0.41; equal passages share all words that were not misheard.
_SAME_TEXT = 0.5
_FEWEST_WORDS = 4
# An unsung section is a solo if its level is at most this far below that of the sung ones.
_SOLO_DB = 2.0
# The first of the repeated groups is usually the verse; it is the chorus only if it is louder than the others by this.
_FIRST_DB = 1.0


@dataclass(frozen=True, slots=True)
class Traits:
    """Facts about a section.

    Args:
        group: sections of one group sound alike.
        level: in dB.
        seconds: its length.
        voice: share of its time in which somebody sings; None if unknown.
        words: the words sung in it, in order.
    """

    group: int
    level: float
    seconds: float
    voice: float | None = None
    words: tuple[str, ...] = ()


def name_sections(sections: Sequence[Traits]) -> list[str]:
    """A name for each section.

    Popular songs repeat their chorus, with its words if they are known, and louder than the rest. Other repeated groups
    are verses, or a pre-chorus if the chorus always follows. A single section after a chorus is a bridge. The first and
    the last section are intro and outro, unless they belong to a repeated group. Other sections without singing are
    solo or instrumental. If no section is repeated, sections get letters, the same for those that sound alike.
    """
    unsung = _unsung(sections)
    kinds = _kinds(sections)
    ends = _ends(sections, kinds, unsung)
    named = dict(ends)
    for i in unsung - set(ends):
        named[i] = "solo" if _is_solo(i, sections, unsung) else "instrumental"
    rest = [i for i in range(len(sections)) if i not in named]
    roles = _roles(rest, kinds, sections)
    if not roles:
        return _letters(kinds, {i: named[i] for i in unsung})
    theme = "chorus" if "chorus" in roles.values() else "verse"
    first = next(i for i in rest if roles.get(kinds[i]) == theme)
    # Words may have been misheard: a section that is single only by its words gets the name of those it sounds like.
    heard = {sections[i].group: roles[kinds[i]] for i in rest if kinds[i] in roles}
    for i in rest:
        late = heard.get(sections[i].group, "bridge")
        named[i] = roles.get(kinds[i]) or (late if i > first else "verse")
    return [named[i] for i in range(len(sections))]


def _is_song(sections: Sequence[Traits]) -> bool:
    """Whether the song has singing, as far as known."""
    return any(section.voice is not None and section.voice >= _SUNG for section in sections)


def _unsung(sections: Sequence[Traits]) -> set[int]:
    """Sections of a song in which nobody sings."""
    if not _is_song(sections):
        return set()
    return {i for i, section in enumerate(sections) if section.voice is not None and section.voice < _SUNG}


def _kinds(sections: Sequence[Traits]) -> list[Hashable]:
    """The kind of each section: sections with the same words, and other sections that sound alike, are of one kind."""
    kinds: list[Hashable] = [section.group for section in sections]
    for i, section in enumerate(sections):
        same = [j for j in range(i) if _same_text(section.words, sections[j].words)]
        if same:
            first = same[0]
            if isinstance(kinds[first], int):
                kinds[first] = ("text", first)
            kinds[i] = kinds[first]
    return kinds


def _same_text(one: Sequence[str], other: Sequence[str]) -> bool:
    if min(len(one), len(other)) < _FEWEST_WORDS:
        return False
    return (Counter(one) & Counter(other)).total() >= _SAME_TEXT * min(len(one), len(other))


def _ends(sections: Sequence[Traits], kinds: Sequence[Hashable], unsung: set[int]) -> dict[int, str]:
    """The first and the last section, if they are intro and outro."""
    last = len(sections) - 1
    if last < 2:
        return {}
    intro = 0 in unsung if _is_song(sections) else _stands_apart(0, sections, kinds)
    outro = last in unsung or _stands_apart(last, sections, kinds)
    return {i: name for i, name, holds in ((0, "intro", intro), (last, "outro", outro)) if holds}


def _stands_apart(i: int, sections: Sequence[Traits], kinds: Sequence[Hashable]) -> bool:
    """Whether the first or last section resembles only the other end of the song, or is much shorter than its kind."""
    like = [j for j, kind in enumerate(kinds) if kind == kinds[i] and j != i]
    if all(j in (0, len(kinds) - 1) for j in like):
        return True
    return sections[i].seconds < 0.75 * float(np.median([sections[j].seconds for j in like]))


def _is_solo(i: int, sections: Sequence[Traits], unsung: set[int]) -> bool:
    sung = [section for j, section in enumerate(sections) if j not in unsung]
    return sections[i].level >= float(np.median([section.level for section in sung])) - _SOLO_DB


def _roles(rest: Sequence[int], kinds: Sequence[Hashable], sections: Sequence[Traits]) -> dict[Hashable, str]:
    """Assigns verse, pre-chorus and chorus to the kinds that occur more than once among the sections `rest`."""
    order = [kinds[i] for i in rest]
    repeated = sorted({kind for kind in order if order.count(kind) > 1}, key=order.index)
    if not repeated:
        return {}

    def prominence(kind: Hashable) -> tuple[bool, float]:
        levels = [sections[i].level for i in rest if kinds[i] == kind]
        return not isinstance(kind, int), float(np.median(levels)) - (_FIRST_DB if kind == repeated[0] else 0.0)

    chorus = max(repeated, key=prominence)
    if len(repeated) == 1 and chorus == order[0]:
        # If a song returns to its beginning and has no second theme, the beginning is its verse.
        return {chorus: "verse"}
    roles: dict[Hashable, str] = dict.fromkeys(repeated, "verse") | {chorus: "chorus"}
    for kind in repeated[1:]:
        if kind != chorus and _always_before(kind, chorus, kinds):
            roles[kind] = "pre-chorus"
    return roles


def _always_before(kind: Hashable, chorus: Hashable, kinds: Sequence[Hashable]) -> bool:
    return all(i + 1 < len(kinds) and kinds[i + 1] == chorus for i, other in enumerate(kinds) if other == kind)


def _letters(kinds: Sequence[Hashable], named: Mapping[int, str]) -> list[str]:
    """Letters for all sections that have no name."""
    order = list(dict.fromkeys(kind for i, kind in enumerate(kinds) if i not in named))
    return [named.get(i) or ascii_uppercase[order.index(kind) % len(ascii_uppercase)] for i, kind in enumerate(kinds)]
