"""Accounts, as auth keeps them."""

import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import exists, func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from services.auth.api_tokens import end_api_tokens
from services.auth.invitations import spend_invitation
from services.auth.names import fold
from services.auth.rechecks import ADMINS, calling_admin, locked_user
from services.auth.secret import now
from services.auth.sessions import end_sessions
from services.auth.tables import User
from services.common.errors import AlreadyExistsError, NotFoundError, PreconditionError
from services.common.limits import MAX_USERNAME
from services.common.rpc.auth import Identity
from services.common.storage.database import Database


class Store:
    """All accounts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def has_users(self) -> bool:
        """Whether anybody can sign in."""
        async with self._database.read() as session:
            return bool(await session.scalar(select(exists(select(User.id)))))

    async def create_first_admin(
        self, username: str, password_hash: str, before_commit: Callable[[], None], *, one_time: bool = False
    ) -> bool:
        """Creates an admin if there is no user yet, also where several processes start at once.

        Args:
            username: the admin's name.
            password_hash: of the admin's password.
            before_commit: called by the one process that creates the admin; if it raises, there is no admin.
            one_time: the password must be changed.

        Returns:
            Whether it was this call that created one.
        """
        async with self._database.write(lock="auth first admin") as session:
            if await session.scalar(select(exists(select(User.id)))):
                return False
            session.add(_new_user(username, password_hash, admin=True, must_change_password=one_time))
            await session.flush()
            before_commit()
        return True

    async def create(
        self,
        username: str,
        password_hash: str,
        *,
        email: str = "",
        admin: bool = False,
        must_change_password: bool = False,
        password_expire_time: datetime | None = None,
        invitation: str | None = None,
        by: Identity | None = None,
    ) -> User:
        """Creates an account.

        Args:
            username: as the user writes it.
            password_hash: of the password.
            email: may be empty.
            admin: has an admin's rights.
            must_change_password: the password is a one-time password.
            password_expire_time: when that is good no more.
            invitation: code of the invitation that is spent with it; None where none is needed.
            by: the admin who asks; None where somebody registers.

        Raises:
            AlreadyExistsError: the name is taken (reason USERNAME_TAKEN).
            PermissionDeniedError: the invitation is no good (reason BAD_INVITATION), or as for `calling_admin`.
            UnauthenticatedError: as for `calling_admin`.
        """
        user = _new_user(
            username,
            password_hash,
            email=email,
            admin=admin,
            must_change_password=must_change_password,
            password_expire_time=password_expire_time,
        )
        try:
            async with self._database.write(lock=ADMINS if by else "") as session:
                if by:
                    await calling_admin(session, by)
                if invitation is not None:
                    await spend_invitation(session, invitation)
                session.add(user)
                await session.flush()
        except IntegrityError:
            raise AlreadyExistsError("This name is taken.", "USERNAME_TAKEN") from None
        return user

    async def user(self, user_id: str) -> User | None:
        """The user with an id."""
        async with self._database.read() as session:
            return await session.get(User, user_id)

    async def user_named(self, username: str) -> User | None:
        """The user with a name."""
        if len(username) > MAX_USERNAME:
            return None
        async with self._database.read() as session:
            return await session.scalar(select(User).where(User.folded_username == fold(username)))

    async def page(self, after: str, size: int) -> list[User]:
        """Users by folded name, those after a folded name."""
        query = select(User).where(User.folded_username > after).order_by(User.folded_username).limit(size)
        async with self._database.read() as session:
            return list(await session.scalars(query))

    async def change(self, user_id: str, changes: dict[str, Any], *, by: Identity) -> User:
        """Changes e-mail, admin's rights or whether an account is disabled. Who loses rights loses sessions and tokens.

        Args:
            user_id: whose.
            changes: new values of `email`, `admin`, `disabled`.
            by: the admin who asks.

        Raises:
            NotFoundError: no such user (reason NO_SUCH_USER).
            PreconditionError: no admin who can sign in would be left (reason LAST_ADMIN).
            UnauthenticatedError, PermissionDeniedError: as for `calling_admin`.
        """
        async with self._database.write(lock=ADMINS) as session:
            await calling_admin(session, by)
            user = await _locked(session, user_id)
            loses = (user.admin and changes.get("admin") is False) or (
                not user.disabled and changes.get("disabled") is True
            )
            for name, value in changes.items():
                setattr(user, name, value)
            await session.flush()
            lasting = or_(User.password_expire_time.is_(None), User.password_expire_time > now())
            if not await session.scalar(select(func.count(User.id)).where(User.admin, ~User.disabled, lasting)):
                raise PreconditionError("There must be an admin who can sign in.", "LAST_ADMIN")
            if loses:
                await end_sessions(session, user_id)
                await end_api_tokens(session, user_id)
        return user

    async def give_one_time_password(
        self, user_id: str, password_hash: str, expire_time: datetime, *, by: Identity
    ) -> User:
        """Replaces a password by one that must be changed, and ends the user's sessions and API tokens.

        Args:
            user_id: whose.
            password_hash: of the one-time password.
            expire_time: when that is good no more.
            by: the admin who asks.

        Raises:
            NotFoundError: no such user (reason NO_SUCH_USER).
            UnauthenticatedError, PermissionDeniedError: as for `calling_admin`.
        """
        async with self._database.write(lock=ADMINS) as session:
            await calling_admin(session, by)
            user = await _locked(session, user_id)
            user.password_hash = password_hash
            user.must_change_password, user.password_expire_time = True, expire_time
            await end_sessions(session, user_id)
            await end_api_tokens(session, user_id)
        return user


def no_such_user() -> NotFoundError:
    """The error of an id that no account has."""
    return NotFoundError("There is no such user.", "NO_SUCH_USER")


async def _locked(session: AsyncSession, user_id: str) -> User:
    user = await locked_user(session, user_id)
    if user is None:
        raise no_such_user()
    return user


def _new_user(username: str, password_hash: str, **details: Any) -> User:
    return User(
        id=uuid.uuid4().hex,
        username=username,
        folded_username=fold(username),
        password_hash=password_hash,
        create_time=now(),
        **details,
    )
