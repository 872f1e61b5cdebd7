"""Forms of made songs: the passages of each, in order."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage of `phrases` phrases of four bars.

    Args:
        label: passages with the same label have the same chords and the same tune.
        phrases: of four bars each.
        up: semitones by which it is higher than the song's key.
        style: instead of the song's.
    """

    label: str
    phrases: int = 2
    up: int = 0
    style: str = ""


Form = tuple[Passage, ...]

_VERSE, _CHORUS = Passage("verse"), Passage("chorus")
_STYLED = {label: Passage(label, 2, 0, label) for label in ("verse", "chorus", "bridge", "solo")}
_INTRO, _OUTRO = Passage("intro", 1, 0, "intro"), Passage("outro", 1, 0, "outro")

FORMS: dict[str, Form] = {
    "verses": (_VERSE, _CHORUS),  # as often as it takes
    "up a semitone": (_VERSE, _CHORUS, Passage("chorus", 2, 1)),
    "up a tone": (_VERSE, _CHORUS, Passage("chorus", 2, 2)),
    "up a minor third": (_VERSE, _CHORUS, Passage("chorus", 2, 3)),
    "bridge a fourth up": (Passage("verse", 3), Passage("bridge", 2, 5), _VERSE),
    "bridge a fifth up": (Passage("verse", 3), Passage("bridge", 2, 7), _VERSE),
    "bridge a sixth up": (Passage("verse", 3), Passage("bridge", 2, 8), _VERSE),
    "song": (_INTRO, *(_STYLED[label] for label in ("verse", "chorus", "verse", "chorus")), _OUTRO),
    "song with a bridge": (
        _INTRO, *(_STYLED[label] for label in ("verse", "chorus", "verse", "bridge", "chorus"))
    ),
    "song with a solo": (
        *(_STYLED[label] for label in ("verse", "chorus", "solo", "verse", "chorus")), _OUTRO
    ),
    "chorus first": tuple(_STYLED[label] for label in ("chorus", "verse", "chorus", "bridge", "solo", "chorus")),
}  # fmt: skip
WITH_SECTIONS = ("song", "song with a bridge", "song with a solo", "chorus first")
"""Forms whose passages differ in sound, so that their sections can be heard."""
