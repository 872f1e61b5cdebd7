"""Issues access tokens: JWTs signed with Ed25519, which every service verifies with `services.common.rpc.auth`."""

import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from services.common.rpc.auth import ALGORITHM, AUDIENCE, ISSUER, Identity


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An Ed25519 key pair and its id, which is in the header of the tokens (`kid`)."""

    key_id: str
    private_key: Ed25519PrivateKey

    @classmethod
    def generate(cls) -> Self:
        """A new key."""
        return cls(secrets.token_hex(8), Ed25519PrivateKey.generate())

    @property
    def public_key(self) -> Ed25519PublicKey:
        """The key that verifies signatures."""
        return self.private_key.public_key()


KeySource = Callable[[], Awaitable[SigningKey]]


class TokenIssuer:
    """Signs access tokens.

    Args:
        signing_key: gives the key to sign with; auth must have published its public key.
        lifetime: how long a token is valid.
    """

    def __init__(self, signing_key: KeySource, lifetime: timedelta) -> None:
        self._signing_key = signing_key
        self.lifetime = lifetime

    async def issue(self, identity: Identity) -> str:
        """A token for this identity."""
        return sign(await self._signing_key(), identity, self.lifetime)


def sign(key: SigningKey, identity: Identity, lifetime: timedelta) -> str:
    """A token for this identity, valid from now on."""
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
        "exp": int(now + lifetime.total_seconds()),
        "jti": secrets.token_hex(16),
    }
    if identity.scopes is not None:
        claims["scope"] = " ".join(sorted(identity.scopes))  # as RFC 8693, section 4.2, writes it
    return jwt.encode(claims, key.private_key, algorithm=ALGORITHM, headers={"kid": key.key_id})
