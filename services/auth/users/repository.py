"""Users in the database."""

import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import exists, func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from services.auth.ending import end_api_tokens, end_sessions
from services.auth.invitations.invitations import spend_invitation
from services.auth.rechecks import ADMINS, calling_admin, locked_user
from services.auth.tables import User
from services.auth.times import now
from services.auth.users.names import fold
from services.common.errors import AlreadyExistsError, NotFoundError, PreconditionError
from services.common.limits import MAX_USERNAME
from services.common.rpc.auth import Identity
from services.common.storage.database import Database


class UserRepository:
    """All users.

    Args:
        database: auth's own.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def has_users(self) -> bool:
        """Whether there is any user."""
        async with self._database.read() as session:
            return bool(await session.scalar(select(exists(select(User.id)))))

    async def create_first_admin(
        self, username: str, password_hash: str, before_commit: Callable[[], None], *, one_time: bool = False
    ) -> bool:
        """Creates an admin if there is no user yet. Of several processes that call it at once, one creates the admin.

        Args:
            username: the admin's name.
            password_hash: of the admin's password.
            before_commit: called before the transaction ends; if it raises, no admin is created.
            one_time: the password is a one-time password.

        Returns:
            Whether this call created one.
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
        """Creates a user.

        Args:
            username: as the user types it.
            password_hash: of the password.
            email: can be empty.
            admin: the user has admin rights.
            must_change_password: the password is a one-time password.
            password_expire_time: when the one-time password expires; None: never.
            invitation: code of an invitation, which is used once; None if none is needed.
            by: the admin who asks; None if somebody registers.

        Raises:
            AlreadyExistsError: the name is taken (reason USERNAME_TAKEN).
            PermissionDeniedError: the invitation is not valid (reason BAD_INVITATION), or as for `calling_admin`.
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
        """The user with this id; None if there is none."""
        async with self._database.read() as session:
            return await session.get(User, user_id)

    async def existing(self, user_id: str) -> User:
        """The user with this id.

        Raises:
            NotFoundError: the account no longer exists (reason NO_SUCH_USER).
        """
        user = await self.user(user_id)
        if user is None:
            raise NotFoundError("This account no longer exists.", "NO_SUCH_USER")
        return user

    async def user_named(self, username: str) -> User | None:
        """The user with this name; None if there is none."""
        if len(username) > MAX_USERNAME:
            return None
        async with self._database.read() as session:
            return await session.scalar(select(User).where(User.folded_username == fold(username)))

    async def page(self, after: str, size: int) -> list[User]:
        """Up to `size` users in the order of their folded names, starting after the folded name `after`."""
        query = select(User).where(User.folded_username > after).order_by(User.folded_username).limit(size)
        async with self._database.read() as session:
            return list(await session.scalars(query))

    async def change(self, user_id: str, changes: dict[str, Any], *, by: Identity) -> User:
        """Changes a user's e-mail, admin rights or whether the user is disabled.

        If the user is disabled or loses admin rights, all of the user's sessions and API tokens end.

        Args:
            user_id: the user.
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
                raise PreconditionError("At least one admin must be able to sign in.", "LAST_ADMIN")
            if loses:
                await end_sessions(session, user_id)
                await end_api_tokens(session, user_id)
        return user

    async def give_one_time_password(
        self, user_id: str, password_hash: str, expire_time: datetime, *, by: Identity
    ) -> User:
        """Replaces a user's password with a one-time password, and ends the user's sessions and API tokens.

        Args:
            user_id: the user.
            password_hash: of the one-time password.
            expire_time: when the one-time password expires.
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


async def _locked(session: AsyncSession, user_id: str) -> User:
    user = await locked_user(session, user_id)
    if user is None:
        raise NotFoundError("There is no such user.", "NO_SUCH_USER")
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
