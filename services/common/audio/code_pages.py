"""Decodes texts of a file whose encoding it does not state, or states wrongly.

Old taggers wrote the code page of their system where formats ask for Latin-1. chardet guesses it from all texts of a
file together. Titles are short, so a guess must also make sense as words.
"""

import unicodedata
from collections.abc import Iterable, Sequence

import chardet

_WESTERN = "windows-1252"
_LATIN = (_WESTERN, "windows-1250", "windows-1254")
_OTHERS = (
    *("windows-1251", "windows-1253", "windows-1255", "windows-1256", "windows-874"),
    *("cp932", "cp949", "big5hkscs", "gb18030"),
)
_CODECS = {"windows-874": "cp874", "tis-620": "cp874", "big5": "big5hkscs", "shift_jis": "cp932", "euc-kr": "cp949"}
_FEW_LETTERS = 2
_PLAIN_LETTERS = 1.5
_FEW_ACCENTS, _MUCH_PLAIN = 4, 1.5
_RARE = frozenset("ŕĺŔĹ˙")
"""Western à, å and ÿ as windows-1250, rare even in Slovak. So are the ideographs of Unicode's extensions."""
_SCRIPTS = ("LATIN", "CYRILLIC", "GREEK", "HEBREW", "ARABIC", "THAI")


def decode_texts(texts: Sequence[bytes]) -> list[str]:
    """Decodes texts of one file, which share an encoding: UTF-8, a Windows code page, Shift-JIS, EUC-KR, Big5 or GBK.

    Text that makes sense as Latin-1 stays so.
    """
    together = b"\n".join(texts)
    encoding = _encoding(together) if not together.isascii() else "ascii"
    return [text.decode(encoding, "replace") for text in texts]


def _encoding(together: bytes) -> str:
    if _decoded(together, "utf-8") is not None:
        return "utf-8"
    western = _decoded(together, _WESTERN)
    western = western if western is not None and _makes_sense(western) else None
    is_latin = _has_plain_letters(together) or (western is not None and _has_few_accents(western))
    if is_latin and western is not None:
        foreign = {character for character in western if character > "\x7f" and character.isalpha()}
        if len(foreign) < _FEW_LETTERS:
            return _WESTERN
    groups = (_LATIN, _OTHERS) if is_latin else (_OTHERS, _LATIN)
    guesses = [guess for group in groups for guess in _guesses(together, group)]
    texts = {guess: text for guess in guesses if (text := _decoded(together, guess)) and _makes_sense(text)}
    common = [guess for guess, text in texts.items() if not any(_is_rare(character) for character in text)]
    return next(iter([*common, *texts]), _WESTERN if western is not None else "latin-1")


def _has_few_accents(western: str) -> bool:
    """Whether much plain text has few other letters, each where a word of Western Europe may have it."""
    words = [word for word in western.split() if not word.isascii()]
    high = [character for word in words for character in word if character > "\x7f"]
    plain = sum(character.isascii() and character.isalpha() for character in western)
    return (
        len(high) <= _FEW_ACCENTS
        and plain >= _MUCH_PLAIN * len(high)
        and all(character.isalpha() for character in high)
        and all(word.istitle() or word.islower() for word in words)
    )


def _guesses(together: bytes, group: Iterable[str]) -> list[str]:
    """Python's names of the encodings that chardet holds possible, the most likely first."""
    found = chardet.detect_all(together, ignore_threshold=True, include_encodings=group)
    names = [str(guess["encoding"] or "").lower() for guess in found]
    return [_CODECS.get(name, name) for name in names if name]


def _is_rare(character: str) -> bool:
    return character in _RARE or "\u3400" <= character <= "\u4dbf" or character >= "\U00020000"


def _has_plain_letters(together: bytes) -> bool:
    """Whether words with other letters have clearly more plain ones, as in all languages of Latin script.

    Half the bytes of a multibyte encoding can be plain letters, and no more.
    """
    plain = other = 0
    for word in together.split():
        high = sum(byte > 0x7F for byte in word)
        if high:
            other += high
            plain += sum(bytes((byte,)).isalpha() for byte in word)
    return plain >= _PLAIN_LETTERS * other


def _decoded(text: bytes, codec: str) -> str | None:
    try:
        return text.decode(codec)
    except (UnicodeDecodeError, LookupError):
        return None


def _makes_sense(text: str) -> bool:
    """Whether no word mixes scripts or has signs among its letters, and no character is a control or unassigned."""
    for word in text.split():
        scripts = {_script(character) for character in word if unicodedata.category(character)[0] in "LM"}
        if len(scripts & set(_SCRIPTS)) > 1:
            return False
        inside = word.strip("".join(character for character in word if not character.isalnum()))
        for character in inside:
            category = unicodedata.category(character)
            if character > "\x7f" and category in ("Sm", "Sc", "Sk", "So", "No", "Cf", "Po") and scripts:
                return False
    return not any(unicodedata.category(character) in ("Cc", "Cn", "Co") for character in text if character != "\n")


def _script(character: str) -> str:
    return unicodedata.name(character, "").partition(" ")[0]
