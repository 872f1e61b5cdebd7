"""Reads users and sessions again, under lock, in the transaction that depends on them.

Checking a password takes a quarter of a second, and longer if many wait. In that time an admin can disable, reset or
delete the user, or take away admin rights. Every change of a user takes the same lock (in `UserRepository`). So of a
change and a sign-in, one comes first: either the sign-in sees the change, or the change ends the session.

Rows are locked in the same order everywhere: the user, then the sessions and API tokens.
"""

from sqlalchemy.ext.asyncio import AsyncSession

from services.auth.tables import ApiToken, Session, User
from services.auth.times import now
from services.common.errors import PermissionDeniedError, UnauthenticatedError
from services.common.rpc.auth import Identity

ADMINS = "auth admins"
"""Lock of transactions in which admins change users: if two admins disable each other, one comes first."""


class PasswordChangedError(UnauthenticatedError):
    """After the password was checked, it was changed or hashed again: the check must be repeated."""

    def __init__(self) -> None:
        super().__init__("The password has just been changed.", "BAD_CREDENTIALS")


async def locked_user(session: AsyncSession, user_id: str) -> User | None:
    """A user as it is now, locked until the transaction ends; None if there is none."""
    return await session.get(User, user_id, with_for_update=True, populate_existing=True)


async def same_user(session: AsyncSession, checked: User) -> User:
    """The user whose password was checked, locked.

    Args:
        session: of the transaction.
        checked: the user as it was when the password was checked.

    Raises:
        PasswordChangedError: the password has changed, a one-time password has expired, or the user was deleted.
        PermissionDeniedError: the user is disabled (reason ACCOUNT_DISABLED).
    """
    user = await locked_user(session, checked.id)
    if user is None or user.password_hash != checked.password_hash or has_expired_password(user):
        raise PasswordChangedError
    if user.disabled:
        raise PermissionDeniedError("This account is disabled; ask an administrator.", "ACCOUNT_DISABLED")
    return user


async def calling_user(session: AsyncSession, caller: Identity) -> User:
    """The user who calls, locked. The access token was valid when the call arrived.

    Raises:
        UnauthenticatedError: the caller's session or API token has ended (reason SESSION_ENDED).
    """
    user = await locked_user(session, caller.subject)
    used: Session | ApiToken | None = await session.get(Session, caller.session_id)
    used = used or await session.get(ApiToken, caller.session_id)
    if user is None or user.disabled or used is None or used.user_id != user.id or used.end_time is not None:
        raise UnauthenticatedError("The session has ended; sign in again.", "SESSION_ENDED")
    return user


async def calling_admin(session: AsyncSession, caller: Identity) -> User:
    """The user who calls and who must still be an admin; for transactions with the lock `ADMINS`.

    Raises:
        UnauthenticatedError: as for `calling_user`.
        PermissionDeniedError: the caller is no longer an admin (reason ADMIN_REQUIRED).
    """
    user = await calling_user(session, caller)
    if not user.admin:
        raise PermissionDeniedError("This is for administrators.", "ADMIN_REQUIRED")
    return user


def has_expired_password(user: User) -> bool:
    """Whether the password is a one-time password that has expired."""
    return user.password_expire_time is not None and user.password_expire_time < now()
