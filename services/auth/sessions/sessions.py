"""Sessions. Each is a chain of refresh tokens; only the last one is valid."""

import uuid
from datetime import datetime, timedelta

from sqlalchemy import delete, exists, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.auth.ending import end_api_tokens, end_sessions, ends_at, used_at
from services.auth.rechecks import locked_user, same_user
from services.auth.secret import digest, new_secret
from services.auth.tables import MAX_ADDRESS, ApiToken, RefreshToken, Session, User
from services.auth.times import CLOCKS_DIFFER, now
from services.common.errors import NotFoundError, UnauthenticatedError
from services.common.rpc.peers import MAX_CLIENT_NAME
from services.common.storage.database import Database

LISTED = timedelta(days=1)
MOST_LISTED = 10_000


class Sessions:
    """The sessions of all users.

    Args:
        database: auth's own.
        refresh_lifetime: how long a refresh token is valid.
        access_lifetime: how long an access token is valid.
    """

    def __init__(self, database: Database, refresh_lifetime: timedelta, access_lifetime: timedelta) -> None:
        self._database = database
        self._access_lifetime = access_lifetime
        self.refresh_lifetime = refresh_lifetime

    async def open(
        self, checked: User, address: str = "", client: str = "", *, renewed_hash: str = ""
    ) -> tuple[User, str, str]:
        """Starts a session of a user whose password was checked.

        Args:
            checked: the user as it was when the password was checked.
            address: IP address of the client.
            client: name of the client, such as a browser's User-Agent.
            renewed_hash: another hash of the same password, which replaces the old one; empty to keep that.

        Returns:
            The user as it is now, the session's id and its first refresh token.

        Raises:
            PasswordChangedError: the password has changed, or the user was deleted.
            PermissionDeniedError: the user is disabled (reason ACCOUNT_DISABLED).
        """
        async with self._database.write() as session:
            user = await same_user(session, checked)
            user.password_hash = renewed_hash or user.password_hash
            return await self._open(session, user, address, client)

    async def change_password(
        self, checked: User, password_hash: str, address: str = "", client: str = "", *, end_tokens: bool
    ) -> tuple[User, str, str]:
        """Replaces a user's password, ends all of the user's sessions, and starts a new one.

        Args:
            checked: the user as it was when the old password was checked.
            password_hash: of the new password.
            address: IP address of the client.
            client: name of the client, such as a browser's User-Agent.
            end_tokens: ends the user's API tokens as well.

        Returns:
            As for `open`.

        Raises:
            PasswordChangedError, PermissionDeniedError: as for `open`; nothing is changed.
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
        """Exchanges a refresh token for the next one.

        If the token was used before, somebody has stolen it or the token that replaced it: the session ends.

        Returns:
            The user as it is now, the session's id and the next refresh token.

        Raises:
            UnauthenticatedError: the token is unknown, expired or used before, its session has ended, or its user is
                disabled (reason BAD_REFRESH_TOKEN).
        """
        renewed = None
        async with self._database.write() as session:
            owner = select(Session.user_id).join(RefreshToken).where(RefreshToken.digest == digest(refresh_token))
            user = await locked_user(session, await session.scalar(owner) or "")
            # Locked as well, so that the second of two refreshes at once sees the first.
            opened = await session.scalar(
                select(Session)
                .join(RefreshToken)
                .where(RefreshToken.digest == digest(refresh_token))
                .with_for_update(of=Session)
                .execution_options(populate_existing=True)
            )
            token = await session.get(RefreshToken, digest(refresh_token), populate_existing=True)
            is_open = opened and opened.end_time is None and token and token.expire_time > now()
            if user and not user.disabled and opened and token and is_open:
                if token.spend_time is None:
                    token.spend_time, opened.last_use_time = now(), used_at(opened)
                    renewed = user, opened.id, self._add_refresh_token(session, opened.id)
                else:
                    await end_sessions(session, user.id, only=opened.id)
        if renewed is None:
            raise UnauthenticatedError("The session has ended; sign in again.", "BAD_REFRESH_TOKEN")
        return renewed

    async def of_user(self, user_id: str) -> list[Session]:
        """A user's open sessions, latest use first."""
        valid = exists().where(
            RefreshToken.session_id == Session.id, RefreshToken.spend_time.is_(None), RefreshToken.expire_time > now()
        )
        query = (
            select(Session)
            .where(Session.user_id == user_id, Session.end_time.is_(None), valid)
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
        """Ends all of a user's sessions but one; returns how many."""
        async with self._database.write() as session:
            return await end_sessions(session, user_id, but=session_id)

    async def sign_out(self, refresh_token: str) -> None:
        """Ends the session of a refresh token, if there is one."""
        async with self._database.write() as session:
            of_token = select(RefreshToken.session_id).where(RefreshToken.digest == digest(refresh_token))
            await session.execute(
                update(Session)
                .where(Session.id.in_(of_token), Session.end_time.is_(None))
                .values(end_time=ends_at(Session))
                .execution_options(synchronize_session=False)
            )

    async def ended(self) -> frozenset[str]:
        """Ids of sessions and API tokens that ended recently.

        Some of their access tokens may not have expired yet. Those that ended within a day are listed as well, up to a
        number: a service that did not reach auth meanwhile may have streams of theirs, which outlive their tokens.
        """
        found: set[str] = set()
        async with self._database.read() as session:
            for table in (Session, ApiToken):
                ids = select(table.id).order_by(table.end_time.desc())
                found.update(await session.scalars(ids.where(table.end_time >= self._oldest_valid())))
                found.update(
                    await session.scalars(ids.where(table.end_time >= self._oldest_listed()).limit(MOST_LISTED))
                )
        return frozenset(found)

    async def purge(self) -> None:
        """Deletes expired refresh tokens, and sessions that have none left and that `ended` does not return."""
        forgotten = or_(Session.end_time.is_(None), Session.end_time < self._oldest_listed())
        async with self._database.write() as session:
            await session.execute(delete(RefreshToken).where(RefreshToken.expire_time < now()))
            await session.execute(
                delete(Session)
                .where(~exists().where(RefreshToken.session_id == Session.id), forgotten)
                .execution_options(synchronize_session=False)
            )

    def _oldest_valid(self) -> datetime:
        """The access tokens of a session that ended before this time have expired."""
        return now() - self._access_lifetime - CLOCKS_DIFFER

    def _oldest_listed(self) -> datetime:
        """A session that ended before this time is forgotten."""
        return min(self._oldest_valid(), now() - LISTED)

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
