"""Keys for sorting and searching titles, artists and musical keys."""

import re
import unicodedata

from services.common.harte import pitch_class
from services.download.tables import SORTED_CHARACTERS

MODES = ("major", "minor")
UNKNOWN_KEY = -1
TONIC = re.compile(r"[A-G][#b]?")


def fold(text: str) -> str:
    """Removes differences of case, accents and spaces: Élan and ELAN become equal."""
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    plain = "".join(character for character in decomposed if unicodedata.category(character) != "Mn")
    return " ".join(plain.replace("\u2019", "'").split())


def sort_title(title: str) -> str:
    """The sort key of a title."""
    return fold(title)[:SORTED_CHARACTERS]


def sort_artist(artist: str, title: str) -> str:
    """The sort key of an artist, then of the title."""
    return f"{fold(artist)[:SORTED_CHARACTERS]}\x01{sort_title(title)}"


def search_text(title: str, artist: str) -> str:
    """The text in which words are searched."""
    return f"{fold(title)}\n{fold(artist)}"


def key_number(tonic: str, mode: str) -> int:
    """The number of a key: the pitch class of its tonic (C is 0), plus 12 for minor; `UNKNOWN_KEY` for no key."""
    if not TONIC.fullmatch(tonic) or mode not in MODES:
        return UNKNOWN_KEY
    return pitch_class(tonic) + 12 * MODES.index(mode)
