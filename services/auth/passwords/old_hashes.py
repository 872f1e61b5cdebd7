"""Password hashes of the old StemTube, as werkzeug writes them. The next sign-in replaces them with bcrypt's.

The formats are `scrypt:N:R:P$SALT$HEX` and `pbkdf2:HASH:ITERATIONS$SALT$HEX`; SALT is used as text, not decoded.
"""

import hashlib
import hmac
import re

MAX_HASH = 255
# A hash says how much work its check takes: without limits, an imported hash could keep everybody from signing in.
MAX_SCRYPT_MEMORY = 256 * 1024 * 1024
MAX_SCRYPT_P = 16
MAX_ITERATIONS = 5_000_000
DIGESTS = ("sha1", "sha256", "sha512")

_SCRYPT = re.compile(r"scrypt:(\d{1,8}):(\d{1,3}):(\d{1,3})\$([A-Za-z0-9./]{1,64})\$([0-9a-f]{128})")
_PBKDF2 = re.compile(rf"pbkdf2:({'|'.join(DIGESTS)}):(\d{{1,8}})\$([A-Za-z0-9./]{{1,64}})\$([0-9a-f]{{40,128}})")


def is_old(hashed: str) -> bool:
    """Whether a hash is in one of these formats, and its check stays within the limits."""
    if match := _SCRYPT.fullmatch(hashed):
        n, r, p = (int(match[group]) for group in (1, 2, 3))
        # RFC 7914: n is a power of two above 1.
        return n > 1 and n & (n - 1) == 0 and 0 < p <= MAX_SCRYPT_P and 0 < 128 * n * r <= MAX_SCRYPT_MEMORY
    if match := _PBKDF2.fullmatch(hashed):
        return 0 < int(match[2]) <= MAX_ITERATIONS and len(match[4]) == 2 * hashlib.new(match[1]).digest_size
    return False


def matches_old(password: str, hashed: str) -> bool:
    """Whether such a hash was made from this password.

    Takes up to a second, during which it releases the GIL.
    """
    if match := _SCRYPT.fullmatch(hashed):
        n, r, p = (int(match[group]) for group in (1, 2, 3))
        salt, expected = match[4].encode(), match[5]
        found = hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=2 * MAX_SCRYPT_MEMORY)
    elif match := _PBKDF2.fullmatch(hashed):
        salt, expected = match[3].encode(), match[4]
        found = hashlib.pbkdf2_hmac(match[1], password.encode(), salt, int(match[2]))
    else:
        return False
    return hmac.compare_digest(found.hex(), expected)
