"""Accounts and sessions, read again under lock in the transaction that depends on them.

A password takes a quarter of a second to check, and longer where many wait. Meanwhile the account can be disabled,
reset or deleted, or lose its rights. Every change of an account takes the same lock (`services.auth.store`), so of a
change and a sign-in one comes first: either the sign-in sees the change, or the change ends the session.

Rows are locked in this order everywhere: the account, then its sessions and API tokens.
"""

from sqlalchemy.ext.asyncio import AsyncSession

from services.auth.secret import now
from services.auth.tables import ApiToken, Session, User
from services.common.errors import PermissionDeniedError, UnauthenticatedError
from services.common.rpc.auth import Identity

ADMINS = "auth admins"
"""Lock of transactions in which admins change something: of two admins who disable each other, one comes first."""


class PasswordChangedError(UnauthenticatedError):
    """Since the password was checked, it was changed, or its hash was renewed: check it again."""

    def __init__(self) -> None:
        super().__init__("The password has changed meanwhile.", "BAD_CREDENTIALS")


async def locked_user(session: AsyncSession, user_id: str) -> User | None:
    """An account as it is now; nobody changes it until the transaction ends."""
    return await session.get(User, user_id, with_for_update=True, populate_existing=True)


async def same_user(session: AsyncSession, checked: User) -> User:
    """The account whose password was found right, locked.

    Args:
        session: of the transaction.
        checked: the account as it was then.

    Raises:
        PasswordChangedError: it has another password now, a one-time password that is over, or is gone.
        PermissionDeniedError: it is disabled (reason ACCOUNT_DISABLED).
    """
    user = await locked_user(session, checked.id)
    if user is None or user.password_hash != checked.password_hash or is_over(user):
        raise PasswordChangedError
    if user.disabled:
        raise PermissionDeniedError("This account is disabled; ask an administrator.", "ACCOUNT_DISABLED")
    return user


async def calling_user(session: AsyncSession, caller: Identity) -> User:
    """The account of a caller whose access token was good when the call came, locked.

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
    """The account of a caller who must be an admin still; for transactions with the lock `ADMINS`.

    Raises:
        UnauthenticatedError: as for `calling_user`.
        PermissionDeniedError: the caller is an admin no more (reason ADMIN_REQUIRED).
    """
    user = await calling_user(session, caller)
    if not user.admin:
        raise PermissionDeniedError("This is for administrators.", "ADMIN_REQUIRED")
    return user


def is_over(user: User) -> bool:
    """Whether the password is a one-time password whose days are over."""
    return user.password_expire_time is not None and user.password_expire_time < now()
