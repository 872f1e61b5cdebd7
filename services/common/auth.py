"""Who is calling: tokens checked offline with auth's public keys, identities, and a service's own token.

Every RPC but those named public needs `authorization: Bearer <JWT>` in its metadata. The token says whether a user or a
service calls; `caller()` gives it to the code that answers.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from services.common.errors import PermissionDeniedError, StemTubeError, UnauthenticatedError, UnavailableError

ISSUER = "stemtube-auth"
AUDIENCE = "stemtube"
ALGORITHM = "EdDSA"
KEY_REFRESH_SECONDS = 60.0
UNKNOWN_KEY_RETRY_SECONDS = 2.0
RENEW_BEFORE_EXPIRY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Identity:
    """A verified caller: a user (`subject` is the user id) or a service (`subject` is its name)."""

    subject: str
    name: str
    kind: Literal["user", "service"]
    admin: bool = False
    session_id: str = ""


_caller: ContextVar[Identity] = ContextVar("caller")


def set_caller(identity: Identity) -> None:
    """Makes `identity` the caller of the present RPC."""
    _caller.set(identity)


def caller() -> Identity:
    """The verified caller of the present RPC.

    Raises:
        UnauthenticatedError: in a public RPC, which has no caller.
    """
    try:
        return _caller.get()
    except LookupError:
        raise UnauthenticatedError("This needs a valid access token.") from None


def require_user() -> Identity:
    """The caller, who must be a user.

    Raises:
        PermissionDeniedError: a service calls (reason USER_REQUIRED).
    """
    identity = caller()
    if identity.kind != "user":
        raise PermissionDeniedError("This is for users; a service's token is not accepted here.", "USER_REQUIRED")
    return identity


def require_service() -> Identity:
    """The caller, which must be a service.

    Raises:
        PermissionDeniedError: a user calls (reason SERVICE_REQUIRED).
    """
    identity = caller()
    if identity.kind != "service":
        raise PermissionDeniedError("This is for services; users reach it through the library.", "SERVICE_REQUIRED")
    return identity


PublicKeys = dict[str, Ed25519PublicKey]
KeySource = Callable[[], Awaitable[PublicKeys]]


class TokenVerifier:
    """Checks access tokens with the public keys that `fetch_keys` gives, which are kept for a minute."""

    def __init__(self, fetch_keys: KeySource) -> None:
        self._fetch_keys = fetch_keys
        self._keys: PublicKeys = {}
        self._fetched_at = float("-inf")
        self._lock = asyncio.Lock()

    async def verify(self, token: str) -> Identity:
        """The identity in a token.

        Raises:
            UnauthenticatedError: not a token of this suite, expired, or signed with an unknown key.
            UnavailableError: the public keys cannot be had.
        """
        try:
            key = await self._key(str(jwt.get_unverified_header(token).get("kid", "")))
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                options={"require": ["exp", "iat", "sub", "kind"]},
            )
        except jwt.ExpiredSignatureError:
            raise UnauthenticatedError("The access token has expired.", "TOKEN_EXPIRED") from None
        except jwt.InvalidTokenError:
            raise UnauthenticatedError("The access token is not valid.", "BAD_TOKEN") from None
        return Identity(
            subject=claims["sub"],
            name=claims.get("name", ""),
            kind="service" if claims["kind"] == "service" else "user",
            admin=claims.get("admin") is True,
            session_id=claims.get("sid", ""),
        )

    async def _key(self, key_id: str) -> Ed25519PublicKey:
        async with self._lock:
            age = time.monotonic() - self._fetched_at
            known = key_id in self._keys
            if age > KEY_REFRESH_SECONDS or (not known and age > UNKNOWN_KEY_RETRY_SECONDS):
                try:
                    self._keys = await self._fetch_keys()
                    self._fetched_at = time.monotonic()
                except StemTubeError as error:
                    if not known:
                        raise UnavailableError("Tokens cannot be checked now: auth does not answer.") from error
            if key_id not in self._keys:
                raise UnauthenticatedError("The access token is not valid.", "BAD_TOKEN")
            return self._keys[key_id]


IssueToken = Callable[[], Awaitable[tuple[str, float]]]


class ServiceIdentity:
    """This service's own token, fetched when needed and renewed before it expires.

    Args:
        issue: asks auth for a token; gives it with its lifetime in seconds.
    """

    def __init__(self, issue: IssueToken) -> None:
        self._issue = issue
        self._token = ""
        self._renew_at = 0.0
        self._lock = asyncio.Lock()

    async def metadata(self) -> tuple[tuple[str, str], ...]:
        """Metadata that authenticates an RPC as this service.

        Raises:
            UnavailableError: auth does not answer.
        """
        async with self._lock:
            if time.monotonic() >= self._renew_at:
                self._token, lifetime = await self._issue()
                self._renew_at = time.monotonic() + max(lifetime - RENEW_BEFORE_EXPIRY_SECONDS, lifetime / 2)
            return bearer(self._token)


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """Metadata that carries an access token."""
    return (("authorization", f"Bearer {token}"),)
