"""API tokens, which users give their scripts instead of a password. Scripts exchange them for access tokens."""

import uuid
from collections.abc import Iterable
from datetime import timedelta

from sqlalchemy import delete, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.auth.ending import end_api_tokens, is_valid_token, used_at
from services.auth.rechecks import calling_user, locked_user, same_user
from services.auth.secret import digest, new_secret
from services.auth.tables import ApiToken, Session, User
from services.auth.times import now
from services.auth.users.names import checked_line
from services.common.errors import (
    InvalidInputError,
    LimitExceededError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from services.common.limits import MAX_LIFETIME_DAYS, MAX_TOKEN_NAME
from services.common.rpc.auth import ADMIN, API_TOKEN_PREFIX, SCOPES, Identity
from services.common.storage.database import Database

MOST_TOKENS = 50
KEPT_AFTER_END = timedelta(days=2)  # longer than any access token lives (see `access_token_minutes`)


class ApiTokens:
    """The API tokens of all users.

    Args:
        database: auth's own.
        fresh: how long after signing in a user can create tokens without giving the password; 0: never.
    """

    def __init__(self, database: Database, fresh: timedelta) -> None:
        self._database = database
        self._fresh = fresh

    async def create(
        self, caller: Identity, name: str, scopes: Iterable[str], lifetime: timedelta, *, checked: User | None
    ) -> tuple[ApiToken, str]:
        """Creates a token.

        Args:
            caller: the user whose token it becomes.
            name: by which the user recognizes it.
            scopes: some of `services.common.rpc.auth.SCOPES`.
            lifetime: until it expires.
            checked: the user as it was when the password was checked; None if no password was given.

        Returns:
            The record and the token itself.

        Raises:
            InvalidInputError: no name, no or unknown scopes, or a lifetime out of range (reason BAD_API_TOKEN).
            LimitExceededError: the user has too many (reason TOO_MANY_API_TOKENS).
            PermissionDeniedError: no password was given, and the sign-in is too long ago (reason PASSWORD_REQUIRED);
                or scope admin, and the caller is no admin (reason ADMIN_REQUIRED).
            UnauthenticatedError: the caller's session has ended, or the password has changed.
        """
        name = checked_line("The token's name", name.strip(), MAX_TOKEN_NAME, "BAD_API_TOKEN")
        chosen = set(scopes)
        if not chosen or not chosen <= set(SCOPES):
            raise InvalidInputError(f"Give one or more scopes of {', '.join(SCOPES)}.", "BAD_API_TOKEN")
        if not timedelta(0) < lifetime <= timedelta(days=MAX_LIFETIME_DAYS):
            raise InvalidInputError(f"An API token can be valid for up to {MAX_LIFETIME_DAYS} days.", "BAD_API_TOKEN")
        secret, created = new_secret(API_TOKEN_PREFIX), now()
        token = ApiToken(
            id=uuid.uuid4().hex,
            digest=digest(secret),
            user_id=caller.subject,
            name=name,
            scopes=" ".join(sorted(chosen)),
            create_time=created,
            expire_time=created + lifetime,
        )
        async with self._database.write() as session:
            user = await calling_user(session, caller)
            if checked:
                await same_user(session, checked)
            else:
                await self._check_fresh(session, caller)
            if ADMIN in chosen and not user.admin:
                raise PermissionDeniedError("This is for administrators.", "ADMIN_REQUIRED")
            mine = select(func.count()).select_from(ApiToken).where(ApiToken.user_id == user.id, is_valid_token())
            if (await session.scalar(mine) or 0) >= MOST_TOKENS:
                raise LimitExceededError(
                    f"A user can have up to {MOST_TOKENS} API tokens; delete one first.", "TOO_MANY_API_TOKENS"
                )
            session.add(token)
        return token, secret

    async def of_user(self, user_id: str) -> list[ApiToken]:
        """A user's valid tokens, newest first."""
        query = select(ApiToken).where(ApiToken.user_id == user_id, is_valid_token())
        async with self._database.read() as session:
            return list(await session.scalars(query.order_by(ApiToken.create_time.desc(), ApiToken.id)))

    async def end(self, user_id: str, token_id: str) -> None:
        """Ends one of a user's tokens.

        Raises:
            NotFoundError: the user has no such token (reason NO_SUCH_API_TOKEN).
        """
        async with self._database.write() as session:
            if not await end_api_tokens(session, user_id, only=token_id):
                raise NotFoundError("There is no such API token.", "NO_SUCH_API_TOKEN")

    async def use(self, secret: str) -> tuple[User, ApiToken]:
        """The user of a token, and its record; notes when it was used.

        Raises:
            UnauthenticatedError: unknown, expired or ended, or its user is disabled (reason BAD_API_TOKEN).
        """
        query = select(ApiToken).where(ApiToken.digest == digest(secret), is_valid_token())
        async with self._database.write() as session:
            owner = await session.scalar(query.with_only_columns(ApiToken.user_id))
            user = await locked_user(session, owner or "")
            # Read only now: the transaction that held the user's lock may have ended the token.
            token = await session.scalar(query.with_for_update())
            if user is None or user.disabled or token is None:
                raise UnauthenticatedError("The API token is not valid.", "BAD_API_TOKEN")
            token.last_use_time = used_at(token)
            return user, token

    async def purge(self) -> None:
        """Deletes tokens that ended or expired so long ago that no access token of theirs is valid."""
        before = now() - KEPT_AFTER_END
        async with self._database.write() as session:
            await session.execute(
                delete(ApiToken).where(or_(ApiToken.end_time < before, ApiToken.expire_time < before))
            )

    async def _check_fresh(self, session: AsyncSession, caller: Identity) -> None:
        signed_in = await session.get(Session, caller.session_id)
        # The absolute value: with a clock that was set back, an old sign-in must not count as a fresh one.
        if signed_in is None or abs(now() - signed_in.create_time) >= self._fresh:
            raise PermissionDeniedError("Give your password to create an API token.", "PASSWORD_REQUIRED")
