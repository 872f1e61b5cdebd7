"""Which passwords users can choose."""

from zxcvbn.frequency_lists import FREQUENCY_LISTS

from services.common.errors import InvalidInputError
from services.common.limits import MAX_PASSWORD, MIN_PASSWORD

# The most frequent passwords in published breaches; 11,611 of them are long enough to be chosen here.
COMMON = frozenset(word for word in FREQUENCY_LISTS["passwords"] if len(word) >= MIN_PASSWORD)
# Words that people try first here, besides the user's name.
CONTEXT_WORDS = ("stemtube",)
LEAST_WITHOUT_THEM = 4


def checked_password(password: str, username: str) -> str:
    """A password that a user chose.

    Raises:
        InvalidInputError: too short, too long, a common one, or little more than the user's name or StemTube's (reason
            BAD_PASSWORD).
    """
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise InvalidInputError(f"A password has {MIN_PASSWORD} to {MAX_PASSWORD} characters.", "BAD_PASSWORD")
    if password.casefold() == username.casefold():
        raise InvalidInputError("A password must not be the user's name.", "BAD_PASSWORD")
    rest = password.casefold()
    for word in (*CONTEXT_WORDS, username.casefold()):
        rest = rest.replace(word, "")
    if len(rest) < LEAST_WITHOUT_THEM:
        raise InvalidInputError("A password must be more than the user's name or StemTube's.", "BAD_PASSWORD")
    if password.casefold() in COMMON:
        raise InvalidInputError("This password is too common; choose another.", "BAD_PASSWORD")
    return password
