"""Access tokens: JWTs signed with Ed25519 that every service checks by itself, for `services.common.auth`."""

import secrets
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from services.common.auth import ALGORITHM, AUDIENCE, ISSUER, Identity


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An Ed25519 key pair with the id that tokens name it by (`kid`)."""

    key_id: str
    private_key: Ed25519PrivateKey

    @classmethod
    def generate(cls) -> Self:
        """A new key."""
        return cls(secrets.token_hex(8), Ed25519PrivateKey.generate())

    @property
    def public_key(self) -> Ed25519PublicKey:
        """What verifies its signatures."""
        return self.private_key.public_key()


class TokenIssuer:
    """Signs access tokens.

    Args:
        key: signs; its public half must be among those that auth publishes.
        lifetime: how long a token is valid.
    """

    def __init__(self, key: SigningKey, lifetime: timedelta) -> None:
        self._key = key
        self.lifetime = lifetime

    def issue(self, identity: Identity) -> str:
        """A token that says who its bearer is."""
        now = time.time()
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": identity.subject,
            "name": identity.name,
            "kind": identity.kind,
            "admin": identity.admin,
            "sid": identity.session_id,
            "iat": int(now),
            "exp": int(now + self.lifetime.total_seconds()),
            "jti": secrets.token_hex(16),
        }
        return jwt.encode(claims, self._key.private_key, algorithm=ALGORITHM, headers={"kid": self._key.key_id})
