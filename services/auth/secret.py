"""Random secrets that are stored as hashes only."""

import hashlib
import secrets
from datetime import UTC, datetime


def new_secret(prefix: str = "") -> str:
    """256 random bits as text, after a prefix that tells people and scanners what it is."""
    return prefix + secrets.token_urlsafe(32)


def digest(secret: str) -> bytes:
    """What is stored of it: it is random enough that a fast hash without salt cannot be turned back."""
    return hashlib.sha256(secret.encode()).digest()


def now() -> datetime:
    """This moment, in UTC."""
    return datetime.now(UTC)
