"""Sessions: a family of refresh tokens each, of which one at a time is good."""

import uuid
from datetime import datetime, timedelta

from sqlalchemy import delete, exists, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.auth.api_tokens import end_api_tokens
from services.auth.rechecks import locked_user, same_user
from services.auth.secret import digest, new_secret, now
from services.auth.tables import MAX_ADDRESS, ApiToken, RefreshToken, Session, User
from services.common.errors import NotFoundError, UnauthenticatedError
from services.common.rpc.peers import MAX_CLIENT_NAME
from services.common.storage.database import Database

CLOCKS_DIFFER = timedelta(minutes=2)


class Sessions:
    """The sessions of all users.

    Args:
        database: auth's own.
        refresh_lifetime: how long a refresh token is good if it is not used.
        access_lifetime: how long the access tokens are good that are got with it.
    """

    def __init__(self, database: Database, refresh_lifetime: timedelta, access_lifetime: timedelta) -> None:
        self._database = database
        self._access_lifetime = access_lifetime
        self.refresh_lifetime = refresh_lifetime

    async def open(
        self, checked: User, address: str = "", client: str = "", *, renewed_hash: str = ""
    ) -> tuple[User, str, str]:
        """Begins a session of a user whose password was found right.

        Args:
            checked: the user as it was then.
            address: where from.
            client: what with, such as a browser's name.
            renewed_hash: another hash of the same password, which takes the place of the old one; empty for none.

        Returns:
            The user as it is now, the session's id and its first refresh token.

        Raises:
            PasswordChangedError: the user has another password now, or is gone.
            PermissionDeniedError: the user is disabled (reason ACCOUNT_DISABLED).
        """
        async with self._database.write() as session:
            user = await same_user(session, checked)
            user.password_hash = renewed_hash or user.password_hash
            return await self._open(session, user, address, client)

    async def change_password(
        self, checked: User, password_hash: str, address: str = "", client: str = "", *, end_tokens: bool
    ) -> tuple[User, str, str]:
        """Replaces a password by one that the user chose, ends all of the user's sessions, and begins one.

        Args:
            checked: the user as it was when the old password was found right.
            password_hash: of the new password.
            address: where from.
            client: what with, such as a browser's name.
            end_tokens: the user's API tokens end as well.

        Returns:
            As for `open`.

        Raises:
            PasswordChangedError, PermissionDeniedError: as for `open`; nothing has changed.
        """
        async with self._database.write() as session:
            user = await same_user(session, checked)
            user.password_hash = password_hash
            user.must_change_password, user.password_expire_time = False, None
            await end_sessions(session, user.id)
            if end_tokens:
                await end_api_tokens(session, user.id)
            return await self._open(session, user, address, client)

    async def refresh(self, refresh_token: str) -> tuple[User, str, str]:
        """Spends a refresh token. One that is spent already has been stolen, or its heir has: the session ends.

        Returns:
            The user as it is now, the session's id and the next refresh token.

        Raises:
            UnauthenticatedError: unknown, expired or spent, of an ended session or a disabled user (reason
                BAD_REFRESH_TOKEN).
        """
        renewed = None
        async with self._database.write() as session:
            owner = select(Session.user_id).join(RefreshToken).where(RefreshToken.digest == digest(refresh_token))
            user = await locked_user(session, await session.scalar(owner) or "")
            # Locked as well, so that of two refreshes at once the second sees the first.
            family = await session.scalar(
                select(Session)
                .join(RefreshToken)
                .where(RefreshToken.digest == digest(refresh_token))
                .with_for_update(of=Session)
                .execution_options(populate_existing=True)
            )
            token = await session.get(RefreshToken, digest(refresh_token), populate_existing=True)
            goes_on = family and family.end_time is None and token and token.expire_time > now()
            if user and not user.disabled and family and token and goes_on:
                if token.spend_time is None:
                    token.spend_time = family.last_use_time = now()
                    renewed = user, family.id, self._add_refresh_token(session, family.id)
                else:
                    family.end_time = now()
        if renewed is None:
            raise UnauthenticatedError("The session has ended; sign in again.", "BAD_REFRESH_TOKEN")
        return renewed

    async def of_user(self, user_id: str) -> list[Session]:
        """A user's open sessions, latest use first."""
        good = exists().where(
            RefreshToken.session_id == Session.id, RefreshToken.spend_time.is_(None), RefreshToken.expire_time > now()
        )
        query = (
            select(Session)
            .where(Session.user_id == user_id, Session.end_time.is_(None), good)
            .order_by(func.coalesce(Session.last_use_time, Session.create_time).desc(), Session.id)
        )
        async with self._database.read() as session:
            return list(await session.scalars(query))

    async def end(self, user_id: str, session_id: str) -> None:
        """Ends one of a user's sessions.

        Raises:
            NotFoundError: the user has no such open session (reason NO_SUCH_SESSION).
        """
        async with self._database.write() as session:
            if not await end_sessions(session, user_id, only=session_id):
                raise NotFoundError("There is no such session.", "NO_SUCH_SESSION")

    async def end_others(self, user_id: str, session_id: str) -> int:
        """Ends all of a user's sessions but one; tells how many."""
        async with self._database.write() as session:
            return await end_sessions(session, user_id, but=session_id)

    async def sign_out(self, refresh_token: str) -> None:
        """Ends the session that a refresh token belongs to, if there is one."""
        async with self._database.write() as session:
            of_token = select(RefreshToken.session_id).where(RefreshToken.digest == digest(refresh_token))
            await session.execute(
                update(Session)
                .where(Session.id.in_(of_token), Session.end_time.is_(None))
                .values(end_time=now())
                .execution_options(synchronize_session=False)
            )

    async def ended(self) -> frozenset[str]:
        """Ids of the sessions and API tokens that ended so lately that access tokens of theirs may not have expired."""
        moment = self._still_asked()
        async with self._database.read() as session:
            sessions = await session.scalars(select(Session.id).where(Session.end_time >= moment))
            tokens = await session.scalars(select(ApiToken.id).where(ApiToken.end_time >= moment))
            return frozenset((*sessions, *tokens))

    async def purge(self) -> None:
        """Forgets refresh tokens that have expired, and sessions that have none left and that nobody asks for."""
        forgotten = or_(Session.end_time.is_(None), Session.end_time < self._still_asked())
        async with self._database.write() as session:
            await session.execute(delete(RefreshToken).where(RefreshToken.expire_time < now()))
            await session.execute(
                delete(Session)
                .where(~exists().where(RefreshToken.session_id == Session.id), forgotten)
                .execution_options(synchronize_session=False)
            )

    def _still_asked(self) -> datetime:
        """Access tokens of what ended before this moment have expired."""
        return now() - self._access_lifetime - CLOCKS_DIFFER

    async def _open(self, session: AsyncSession, user: User, address: str, client: str) -> tuple[User, str, str]:
        opened = Session(
            id=uuid.uuid4().hex,
            user_id=user.id,
            create_time=now(),
            address=address[:MAX_ADDRESS],
            client=client[:MAX_CLIENT_NAME],
        )
        session.add(opened)
        await session.flush()
        return user, opened.id, self._add_refresh_token(session, opened.id)

    def _add_refresh_token(self, session: AsyncSession, session_id: str) -> str:
        token = new_secret()
        expires = now() + self.refresh_lifetime
        session.add(RefreshToken(digest=digest(token), session_id=session_id, expire_time=expires))
        return token


async def end_sessions(session: AsyncSession, user_id: str, *, only: str = "", but: str = "") -> int:
    """Ends sessions of a user within a transaction: all, one, or all but one.

    Returns:
        How many were open.
    """
    ending = update(Session).where(Session.user_id == user_id, Session.end_time.is_(None)).values(end_time=now())
    if only:
        ending = ending.where(Session.id == only)
    if but:
        ending = ending.where(Session.id != but)
    ended = await session.scalars(ending.returning(Session.id).execution_options(synchronize_session=False))
    return len(list(ended))
