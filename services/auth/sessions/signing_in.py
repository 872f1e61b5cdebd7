"""Checks passwords, and gives users sessions and access tokens."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from services.auth.access_tokens.issuer import TokenIssuer
from services.auth.passwords.hashing import PasswordHasher
from services.auth.rechecks import PasswordChangedError, has_expired_password
from services.auth.sessions.sessions import Sessions
from services.auth.sessions.throttle import Throttle, account, address
from services.auth.tables import User
from services.auth.times import duration
from services.auth.users.messages import user_message
from services.auth.users.names import fold
from services.auth.users.repository import UserRepository
from services.common.errors import PermissionDeniedError, UnauthenticatedError
from services.common.limits import MAX_USERNAME
from services.common.observe import audit
from services.common.rpc.auth import ADMIN, CHANGE_PASSWORD, Identity
from services.common.rpc.peers import present_client
from stemtube.auth.v1 import session_pb2

T = TypeVar("T")


class SigningIn:
    """Checks passwords and starts sessions. An unknown user takes as much work as a known one.

    Args:
        users: all users.
        sessions: of all users.
        hasher: hashes and checks passwords.
        throttle: limits attempts.
        issuer: issues access tokens.
    """

    def __init__(
        self, users: UserRepository, sessions: Sessions, hasher: PasswordHasher, throttle: Throttle, issuer: TokenIssuer
    ) -> None:
        self._users = users
        self._sessions = sessions
        self._hasher = hasher
        self._throttle = throttle
        self._issuer = issuer

    async def check(self, username: str, password: str) -> User:
        """The user with this name and this password.

        Raises:
            UnauthenticatedError: there is no such user, or the password is wrong (reason BAD_CREDENTIALS).
            LimitExceededError: too many attempts (reason TOO_MANY_ATTEMPTS).
        """
        of_account = account(fold(username[: MAX_USERNAME + 1]))
        network = present_client().network
        of_address = [address(network)] if network else []
        await self._throttle.begin(of_account, *of_address)
        user = await self._users.user_named(username)
        matches = await self._hasher.matches(password, user.password_hash if user else None)
        if user is None or not matches or has_expired_password(user):
            audit.record("sign-in refused", user=user.id if user else "unknown")
            raise UnauthenticatedError("Unknown user or wrong password.", "BAD_CREDENTIALS")
        await self._throttle.succeeded(of_account, *of_address)
        return user

    async def with_password(self, username: str, password: str, act: Callable[[User], Awaitable[T]]) -> T:
        """Checks a password, then does something that needs it.

        Args:
            username: of the user.
            password: the password to check.
            act: does it. It gets the user as it was when the password was checked, and raises PasswordChangedError if,
                in its own transaction, the password has changed. Then the password is checked once more.

        Raises:
            UnauthenticatedError, LimitExceededError: as for `check`.
            PermissionDeniedError: the password is right and the account disabled (reason ACCOUNT_DISABLED).
        """
        try:
            return await self._act(await self.check(username, password), act)
        except PasswordChangedError:
            # Another sign-in may have hashed the same password again: then it is still right.
            return await self._act(await self.check(username, password), act)

    async def sign_in(self, username: str, password: str) -> session_pb2.Session:
        """Starts a session of the user with this name and this password.

        Raises:
            UnauthenticatedError, LimitExceededError, PermissionDeniedError: as for `with_password`.
        """

        async def start(user: User) -> session_pb2.Session:
            outdated = not user.disabled and self._hasher.is_outdated(user.password_hash)
            return await self.start_session(user, renewed_hash=await self._hasher.hash(password) if outdated else "")

        return await self.with_password(username, password, start)

    async def start_session(self, checked: User, *, renewed_hash: str = "") -> session_pb2.Session:
        """Starts a session of a user; arguments and errors are those of `Sessions.open`."""
        client = present_client()
        opened = await self._sessions.open(checked, client.address, client.name, renewed_hash=renewed_hash)
        return await self._signed_in(*opened)

    async def change_password(
        self, username: str, old_password: str, new_password: str, *, end_tokens: bool
    ) -> session_pb2.Session:
        """Replaces a user's password, ends all of the user's sessions, and starts a new one.

        Args:
            username: of the user.
            old_password: is checked.
            new_password: replaces it.
            end_tokens: ends the user's API tokens as well.

        Raises:
            UnauthenticatedError, LimitExceededError, PermissionDeniedError: as for `with_password`.
        """
        client = present_client()

        async def change(user: User) -> session_pb2.Session:
            password_hash = await self._hasher.hash(new_password)
            changed = await self._sessions.change_password(
                user, password_hash, client.address, client.name, end_tokens=end_tokens
            )
            audit.record("password changed", user=user.id, ended_api_tokens=end_tokens)
            return await self._signed_in(*changed)

        return await self.with_password(username, old_password, change)

    async def refresh(self, refresh_token: str) -> session_pb2.Session:
        """Exchanges a refresh token for new tokens.

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
            audit.record("sign-in refused: the password has just been changed", user=user.id)
            raise

    async def _signed_in(self, user: User, session_id: str, refresh_token: str) -> session_pb2.Session:
        audit.record("signed in", user=user.id, session=session_id)
        return await self._message(user, session_id, refresh_token)

    async def _message(self, user: User, session_id: str, refresh_token: str) -> session_pb2.Session:
        return session_pb2.Session(
            access_token=await self._issuer.issue(user_identity(user, session_id)),
            expires_in=duration(self._issuer.lifetime),
            refresh_token=refresh_token,
            refresh_expires_in=duration(self._sessions.refresh_lifetime),
            user=user_message(user),
        )


def user_identity(user: User, session_id: str, scopes: frozenset[str] | None = None) -> Identity:
    """The identity of a user, for an access token.

    Args:
        user: the user.
        session_id: id of the session or API token that the access token is issued for.
        scopes: of the API token; None for a session.
    """
    if user.must_change_password:
        scopes = frozenset({CHANGE_PASSWORD})
    admin = user.admin and (scopes is None or ADMIN in scopes)
    return Identity(user.id, user.username, "user", admin=admin, session_id=session_id, scopes=scopes)
