"""Random secrets, stored only as hashes."""

import hashlib
import secrets


def new_secret(prefix: str = "") -> str:
    """256 random bits as text, after a prefix by which people and secret scanners recognize it."""
    return prefix + secrets.token_urlsafe(32)


def digest(secret: str) -> bytes:
    """The hash of a secret, to be stored.

    SHA-256 without salt is enough: nobody can guess 256 random bits.
    """
    return hashlib.sha256(secret.encode()).digest()
