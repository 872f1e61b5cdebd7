"""Signing in: the one place where passwords are checked, and where users get sessions and tokens."""

from services.auth.messages import duration, user_message
from services.auth.names import fold
from services.auth.passwords import PasswordHasher
from services.auth.secret import now
from services.auth.sessions import Sessions
from services.auth.store import Store
from services.auth.tables import MAX_USERNAME, User
from services.auth.throttle import Throttle, account, address
from services.auth.tokens import TokenIssuer
from services.common import audit
from services.common.auth import ADMIN, CHANGE_PASSWORD, Identity
from services.common.errors import UnauthenticatedError
from services.common.peers import present_client
from stemtube.auth.v1 import auth_pb2


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
        if user is None or not matches or (user.password_expire_time and user.password_expire_time < now()):
            audit.record("sign-in refused", user=user.id if user else "unknown")
            raise UnauthenticatedError("Unknown user or wrong password.", "BAD_CREDENTIALS")
        await self._throttle.succeeded(of_account, *of_address)
        return user

    async def begin(self, user: User, *, end_others: bool = False) -> auth_pb2.Session:
        """Begins a session of a user, and ends the user's others if that is wanted."""
        client = present_client()
        open_session = self._sessions.reopen if end_others else self._sessions.open
        session_id, refresh_token = await open_session(user.id, client.address, client.name)
        audit.record("signed in", user=user.id, session=session_id)
        return await self._message(user, session_id, refresh_token)

    async def go_on(self, refresh_token: str) -> auth_pb2.Session:
        """Spends a refresh token.

        Raises:
            UnauthenticatedError: as for `Sessions.refresh`.
        """
        return await self._message(*await self._sessions.refresh(refresh_token))

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
