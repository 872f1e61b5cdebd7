"""Identities of callers: tokens are checked offline with auth's public keys. Also a service's own token.

Every RPC that is not public needs `authorization: Bearer <JWT>` in its metadata. The token says which user or service
calls; servicers get it from `caller()`.

Most tokens allow everything that their bearer may do. A token with scopes (of an API token or a one-time password) is
valid only for RPCs of these scopes; `services.common.rpc.interceptor` checks that.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from services.common.errors import PermissionDeniedError, StemTubeError, UnauthenticatedError, UnavailableError

log = structlog.get_logger(__name__)

ISSUER = "stemtube-auth"
AUDIENCE = "stemtube"
ALGORITHM = "EdDSA"
CLOCK_SKEW_SECONDS = 10.0
KEY_REFRESH_SECONDS = 30.0  # so that every service refuses an ended session within a minute, retries included
KEY_RETRY_SECONDS = 2.0
KNOWN_KEY_PATIENCE_SECONDS = 1.0
UNKNOWN_KEY_PATIENCE_SECONDS = 10.0
RENEW_BEFORE_EXPIRY_SECONDS = 60.0
RENEWAL_RETRY_SECONDS = 2.0

API_TOKEN_PREFIX = "stemtube_"
READ, WRITE, ADMIN = "read", "write", "admin"
SCOPES = (READ, WRITE, ADMIN)
"""The scopes that an API token can have."""
CHANGE_PASSWORD = "change-password"
"""Scope of a session that began with a one-time password."""
READING = ("Get", "List", "Watch", "Search", "LookUp")
"""Beginnings of the names of RPCs that change nothing."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A verified caller.

    Args:
        subject: a user's id, or a service's name.
        name: for display.
        kind: user or service.
        admin: whether it has the rights of an admin.
        session_id: id of the session or API token that the access token was issued for.
        scopes: the token's scopes; None: everything that its bearer may do.
        key_id: id of the key that signed the access token.
    """

    subject: str
    name: str
    kind: Literal["user", "service"]
    admin: bool = False
    session_id: str = ""
    scopes: frozenset[str] | None = None
    key_id: str = field(default="", compare=False)


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


def require_admin() -> Identity:
    """The caller, who must be a user and an admin.

    Raises:
        PermissionDeniedError: a service calls (reason USER_REQUIRED), or another user (reason ADMIN_REQUIRED).
    """
    identity = require_user()
    if not identity.admin:
        raise PermissionDeniedError("This is for administrators.", "ADMIN_REQUIRED")
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


def require_scope(identity: Identity, method: str, accepted: Mapping[str, frozenset[str]]) -> None:
    """Checks that a token with scopes is valid for an RPC.

    Args:
        identity: the caller.
        method: full name of the RPC.
        accepted: scopes by full name of the RPC; other RPCs need `read` or `write`, according to their name.

    Raises:
        PermissionDeniedError: it is not (reasons PASSWORD_CHANGE_REQUIRED, INSUFFICIENT_SCOPE).
    """
    if identity.scopes is None:
        return
    by_name = READ if method.rpartition("/")[2].startswith(READING) else WRITE
    if identity.scopes & accepted.get(method, frozenset({by_name})):
        return
    if CHANGE_PASSWORD in identity.scopes:
        raise PermissionDeniedError("Choose a password of your own first.", "PASSWORD_CHANGE_REQUIRED")
    raise PermissionDeniedError("The API token is not meant for this.", "INSUFFICIENT_SCOPE")


PublicKeys = dict[str, Ed25519PublicKey]
KeySource = Callable[[], Awaitable[PublicKeys]]
EndedSource = Callable[[], Awaitable[frozenset[str]]]


async def nothing_ended() -> frozenset[str]:
    """An `EndedSource` without ended sessions."""
    return frozenset()


class TokenVerifier:
    """Checks access tokens with auth's public keys; fetches these and the ended sessions every half minute.

    While auth does not answer, tokens signed with a known key stay valid, and no RPC waits for auth longer than a
    second.

    Args:
        fetch_keys: returns the public keys by key id.
        fetch_ended: returns the ids of ended sessions, whose tokens are refused even before they expire.
        refresh_seconds: age at which both are fetched again.
        retry_seconds: least time between two attempts to fetch them.
    """

    def __init__(
        self,
        fetch_keys: KeySource,
        fetch_ended: EndedSource = nothing_ended,
        *,
        refresh_seconds: float = KEY_REFRESH_SECONDS,
        retry_seconds: float = KEY_RETRY_SECONDS,
    ) -> None:
        self._fetch_keys = fetch_keys
        self._fetch_ended = fetch_ended
        self._refresh_seconds = refresh_seconds
        self._retry_seconds = retry_seconds
        self._keys: PublicKeys = {}
        self._ended: frozenset[str] = frozenset()
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    async def verify(self, token: str) -> Identity:
        """Checks a token and returns the identity in it.

        Raises:
            UnauthenticatedError: it is not a token of this suite, it has expired, or its session or its key is not
                valid any more.
            UnavailableError: the public keys cannot be fetched.
        """
        try:
            key_id = str(jwt.get_unverified_header(token).get("kid", ""))
            key = await self._key(key_id)
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                leeway=CLOCK_SKEW_SECONDS,
                options={"require": ["exp", "iat", "iss", "aud", "sub", "kind"]},
            )
        except jwt.ExpiredSignatureError:
            raise UnauthenticatedError("The access token has expired.", "TOKEN_EXPIRED") from None
        except jwt.PyJWTError:
            raise _bad_token() from None
        if claims["kind"] not in ("user", "service"):
            raise _bad_token()
        identity = Identity(
            subject=claims["sub"],
            name=claims.get("name", ""),
            kind=claims["kind"],
            admin=claims.get("admin") is True,
            session_id=claims.get("sid", ""),
            scopes=frozenset(str(claims["scope"]).split()) if "scope" in claims else None,
            key_id=key_id,
        )
        if identity.session_id in self._ended:
            raise _session_ended()
        return identity

    async def until_ended(self, identity: Identity) -> None:
        """Waits until a caller's session ends or key is withdrawn, for RPCs that outlive their access token.

        Raises:
            UnauthenticatedError: the session has ended (reason SESSION_ENDED), or the key that signed the access token
                is no longer valid (reason BAD_TOKEN).
        """
        while identity.session_id not in self._ended and identity.key_id in self._keys:
            await asyncio.sleep(self._refresh_seconds / 2)
            if time.monotonic() - self._fetched_at > self._refresh_seconds:
                await self._refresh(UNKNOWN_KEY_PATIENCE_SECONDS)
        raise _session_ended() if identity.session_id in self._ended else _bad_token()

    async def _key(self, key_id: str) -> Ed25519PublicKey:
        known = key_id in self._keys
        if not known or time.monotonic() - self._fetched_at > self._refresh_seconds:
            await self._refresh(KNOWN_KEY_PATIENCE_SECONDS if known else UNKNOWN_KEY_PATIENCE_SECONDS)
        if key := self._keys.get(key_id):
            return key
        if self._fetched_at < self._tried_at:
            raise UnavailableError("Tokens cannot be checked now: auth does not answer.", "AUTH_UNAVAILABLE")
        raise _bad_token()

    async def _refresh(self, patience: float) -> None:
        """Fetches the keys, unless that was just tried; one fetch for all callers, who wait `patience` seconds."""
        now = time.monotonic()
        if self._fetching is None or self._fetching.done():
            if now - self._tried_at < self._retry_seconds:
                return
            self._tried_at = now
            self._fetching = asyncio.create_task(self._fetch())
        await asyncio.wait({self._fetching}, timeout=max(self._tried_at + patience - now, 0.0))

    async def _fetch(self) -> None:
        try:
            self._keys = await self._fetch_keys()
            self._ended = await self._fetch_ended()
        except StemTubeError as error:
            log.warning(
                "cannot fetch signing keys and ended sessions; tokens with known keys stay valid",
                reason=error.reason,
                detail=error.message,
            )
        # Nobody awaits this task, so an unexpected error, such as an unreadable key, would not be noticed.
        except Exception:
            log.exception("cannot fetch signing keys and ended sessions; tokens with known keys stay valid")
        else:
            self._fetched_at = time.monotonic()


def _bad_token() -> UnauthenticatedError:
    return UnauthenticatedError("The access token is not valid.", "BAD_TOKEN")


def _session_ended() -> UnauthenticatedError:
    return UnauthenticatedError("The session has ended; sign in again.", "SESSION_ENDED")


IssueToken = Callable[[], Awaitable[tuple[str, float]]]


class ServiceIdentity:
    """This service's own token, fetched when needed and renewed in the background before it expires.

    Callers wait for auth only if there is no valid token, or if the token was refused. Its age is measured by the time
    of day, as by the services that check it, so setting the clock renews it.

    Args:
        issue: asks auth for a token; returns it with its lifetime in seconds.
        retry_seconds: least time between two attempts to renew it.
    """

    def __init__(self, issue: IssueToken, retry_seconds: float = RENEWAL_RETRY_SECONDS) -> None:
        self._issue = issue
        self._retry_seconds = retry_seconds
        self._token = ""
        self._issued_at = self._renew_at = self._expires_at = 0.0
        self._new_until = self._retry_at = 0.0
        self._is_refused = False
        self._error: StemTubeError | None = None
        self._renewal: asyncio.Task[None] | None = None

    async def metadata(self) -> tuple[tuple[str, str], ...]:
        """Metadata that authenticates an RPC as this service.

        Raises:
            StemTubeError: auth gives no token, and the last one has expired.
        """
        now = time.time()
        is_valid = self._issued_at - CLOCK_SKEW_SECONDS <= now < self._expires_at
        is_due = not is_valid or self._is_refused or now >= self._renew_at
        if is_due and (self._renewal is None or self._renewal.done()) and time.monotonic() >= self._retry_at:
            self._renewal = asyncio.create_task(self._renew())
        if not is_valid or self._is_refused:
            if self._renewal:
                await asyncio.shield(self._renewal)
            if self._error and not is_valid:
                raise self._error.with_traceback(None)
        return bearer(self._token)

    def refused(self) -> None:
        """Makes the next use renew the token: a service refused it, because its key was withdrawn or a clock set."""
        # Calls that were refused with the previous token may report it only now.
        if time.monotonic() >= self._new_until:
            self._is_refused = True

    async def _renew(self) -> None:
        try:
            self._token, lifetime = await self._issue()
        except StemTubeError as error:
            self._error, self._retry_at = error, time.monotonic() + self._retry_seconds
            return
        now = time.time()
        self._error, self._is_refused, self._new_until = None, False, time.monotonic() + self._retry_seconds
        self._issued_at, self._expires_at = now, now + lifetime
        self._renew_at = now + max(lifetime - RENEW_BEFORE_EXPIRY_SECONDS, lifetime / 2)


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """Metadata with an access token."""
    return (("authorization", f"Bearer {token}"),)
