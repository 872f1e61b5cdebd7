"""Signing in: the one place where passwords are checked, and where users get sessions and tokens."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from services.auth.messages import duration, user_message
from services.auth.names import fold
from services.auth.passwords import PasswordHasher
from services.auth.rechecks import PasswordChangedError, is_over
from services.auth.sessions import Sessions
from services.auth.store import Store
from services.auth.tables import User
from services.auth.throttle import Throttle, account, address
from services.auth.tokens import TokenIssuer
from services.common.errors import PermissionDeniedError, UnauthenticatedError
from services.common.limits import MAX_USERNAME
from services.common.observe import audit
from services.common.rpc.auth import ADMIN, CHANGE_PASSWORD, Identity
from services.common.rpc.peers import present_client
from stemtube.auth.v1 import auth_pb2

T = TypeVar("T")


class SigningIn:
    """Checks passwords, with as much work for a user that does not exist, and begins sessions.

    Args:
        store: accounts.
        sessions: their sessions.
        hasher: checks passwords.
        throttle: slows guessing down.
        issuer: signs access tokens.
    """

    def __init__(
        self, store: Store, sessions: Sessions, hasher: PasswordHasher, throttle: Throttle, issuer: TokenIssuer
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._hasher = hasher
        self._throttle = throttle
        self._issuer = issuer

    async def check(self, username: str, password: str) -> User:
        """The user with this name and this password.

        Raises:
            UnauthenticatedError: there is none (reason BAD_CREDENTIALS).
            LimitExceededError: too many attempts (reason TOO_MANY_ATTEMPTS).
        """
        of_account = account(fold(username[: MAX_USERNAME + 1]))
        network = present_client().network
        of_address = [address(network)] if network else []
        await self._throttle.begin(of_account, *of_address)
        user = await self._store.user_named(username)
        matches = await self._hasher.matches(password, user.password_hash if user else None)
        if user is None or not matches or is_over(user):
            audit.record("sign-in refused", user=user.id if user else "unknown")
            raise UnauthenticatedError("Unknown user or wrong password.", "BAD_CREDENTIALS")
        await self._throttle.succeeded(of_account, *of_address)
        return user

    async def with_password(self, username: str, password: str, act: Callable[[User], Awaitable[T]]) -> T:
        """Checks a password, then does what takes the right one.

        Args:
            username: whose.
            password: what somebody says it is.
            act: gets the user as it was when the password was checked, and checks in the transaction that acts whether
                that is so still: it raises PasswordChangedError if not. It is called twice at most.

        Raises:
            UnauthenticatedError, LimitExceededError: as for `check`.
            PermissionDeniedError: the password is right and the account disabled (reason ACCOUNT_DISABLED).
        """
        try:
            return await self._act(await self.check(username, password), act)
        except PasswordChangedError:
            # Another sign-in may have renewed the hash of the same password: that is no reason to refuse this one.
            return await self._act(await self.check(username, password), act)

    async def sign_in(self, username: str, password: str) -> auth_pb2.Session:
        """Begins a session of the user with this name and this password.

        Raises:
            UnauthenticatedError, LimitExceededError, PermissionDeniedError: as for `with_password`.
        """

        async def begin(user: User) -> auth_pb2.Session:
            outdated = not user.disabled and self._hasher.is_outdated(user.password_hash)
            return await self.begin(user, renewed_hash=await self._hasher.hash(password) if outdated else "")

        return await self.with_password(username, password, begin)

    async def begin(self, checked: User, *, renewed_hash: str = "") -> auth_pb2.Session:
        """Begins a session of a user; arguments and errors are those of `Sessions.open`."""
        client = present_client()
        opened = await self._sessions.open(checked, client.address, client.name, renewed_hash=renewed_hash)
        return await self._signed_in(*opened)

    async def change_password(
        self, username: str, old_password: str, new_password: str, *, end_tokens: bool
    ) -> auth_pb2.Session:
        """Replaces a password, ends all sessions and begins one; tokens end as well if that is wanted.

        Raises:
            UnauthenticatedError, LimitExceededError, PermissionDeniedError: as for `with_password`.
        """
        client = present_client()

        async def change(user: User) -> auth_pb2.Session:
            password_hash = await self._hasher.hash(new_password)
            changed = await self._sessions.change_password(
                user, password_hash, client.address, client.name, end_tokens=end_tokens
            )
            audit.record("password changed", user=user.id, ended_api_tokens=end_tokens)
            return await self._signed_in(*changed)

        return await self.with_password(username, old_password, change)

    async def go_on(self, refresh_token: str) -> auth_pb2.Session:
        """Spends a refresh token.

        Raises:
            UnauthenticatedError: as for `Sessions.refresh`.
        """
        return await self._message(*await self._sessions.refresh(refresh_token))

    async def _act(self, user: User, act: Callable[[User], Awaitable[T]]) -> T:
        try:
            return await act(user)
        except PermissionDeniedError as error:
            if error.reason == "ACCOUNT_DISABLED":
                audit.record("sign-in refused: disabled", user=user.id)
            raise
        except PasswordChangedError:
            audit.record("sign-in refused: the password changed meanwhile", user=user.id)
            raise

    async def _signed_in(self, user: User, session_id: str, refresh_token: str) -> auth_pb2.Session:
        audit.record("signed in", user=user.id, session=session_id)
        return await self._message(user, session_id, refresh_token)

    async def _message(self, user: User, session_id: str, refresh_token: str) -> auth_pb2.Session:
        return auth_pb2.Session(
            access_token=await self._issuer.issue(user_identity(user, session_id)),
            expires_in=duration(self._issuer.lifetime),
            refresh_token=refresh_token,
            refresh_expires_in=duration(self._sessions.refresh_lifetime),
            user=user_message(user),
        )


def user_identity(user: User, session_id: str, scopes: frozenset[str] | None = None) -> Identity:
    """What an access token says of a user.

    Args:
        user: the bearer.
        session_id: of the session or API token that it is got with.
        scopes: of the API token; None for a session.
    """
    if user.must_change_password:
        scopes = frozenset({CHANGE_PASSWORD})
    admin = user.admin and (scopes is None or ADMIN in scopes)
    return Identity(user.id, user.username, "user", admin=admin, session_id=session_id, scopes=scopes)
