"""What titles, artists and keys are sorted and found by."""

import re
import unicodedata

from services.common.harte import pitch_class
from services.download.tables import SORTED_CHARACTERS

MODES = ("major", "minor")
UNKNOWN_KEY = -1
TONIC = re.compile(r"[A-G][#b]?")


def fold(text: str) -> str:
    """Text without differences of case, accents and spaces: Élan and ELAN are one."""
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    plain = "".join(character for character in decomposed if unicodedata.category(character) != "Mn")
    return " ".join(plain.replace("\u2019", "'").split())


def sort_title(title: str) -> str:
    """What a title sorts by."""
    return fold(title)[:SORTED_CHARACTERS]


def sort_artist(artist: str, title: str) -> str:
    """What an artist's title sorts by: the artist, then the title."""
    return f"{fold(artist)[:SORTED_CHARACTERS]}\x01{sort_title(title)}"


def search_text(title: str, artist: str) -> str:
    """What a search for words looks through."""
    return f"{fold(title)}\n{fold(artist)}"


def key_number(tonic: str, mode: str) -> int:
    """A key as a number: the pitch class of its tonic (C = 0), 12 more for minor; `UNKNOWN_KEY` for anything else."""
    if not TONIC.fullmatch(tonic) or mode not in MODES:
        return UNKNOWN_KEY
    return pitch_class(tonic) + 12 * MODES.index(mode)
