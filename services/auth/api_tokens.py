"""API tokens: what users give their scripts instead of a password. They are exchanged for short-lived access tokens."""

import uuid
from collections.abc import Iterable
from datetime import timedelta

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.auth.names import checked_line
from services.auth.rechecks import calling_user, locked_user, same_user
from services.auth.secret import digest, new_secret, now
from services.auth.tables import ApiToken, Session, User
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
KEPT_AFTER_END = timedelta(days=2)  # longer than any access token lives that was got with it


class ApiTokens:
    """The API tokens of all users.

    Args:
        database: auth's own.
        fresh: age up to which a sign-in stands for the password where a token is made; 0: it never does.
    """

    def __init__(self, database: Database, fresh: timedelta) -> None:
        self._database = database
        self._fresh = fresh

    async def create(
        self, caller: Identity, name: str, scopes: Iterable[str], lifetime: timedelta, *, checked: User | None
    ) -> tuple[ApiToken, str]:
        """Makes a token.

        Args:
            caller: whose.
            name: for the user.
            scopes: among `services.common.rpc.auth.SCOPES`.
            lifetime: until it expires.
            checked: the caller as it was when the password was found right; None where none was given.

        Returns:
            The record and the token itself.

        Raises:
            InvalidInputError: no name, other scopes, or another lifetime than allowed (reason BAD_API_TOKEN).
            LimitExceededError: the user has too many (reason TOO_MANY_API_TOKENS).
            PermissionDeniedError: no password was given, and the sign-in is some minutes old (reason
                PASSWORD_REQUIRED); or scope admin, and the caller is none (reason ADMIN_REQUIRED).
            UnauthenticatedError: the caller's session has ended, or the password has changed.
        """
        name = checked_line("The token's name", name.strip(), MAX_TOKEN_NAME, "BAD_API_TOKEN")
        chosen = set(scopes)
        if not chosen or not chosen <= set(SCOPES):
            raise InvalidInputError(f"Scopes are one or several of {', '.join(SCOPES)}.", "BAD_API_TOKEN")
        if not timedelta(0) < lifetime <= timedelta(days=MAX_LIFETIME_DAYS):
            raise InvalidInputError(f"A token lives up to {MAX_LIFETIME_DAYS} days.", "BAD_API_TOKEN")
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
            mine = select(func.count()).select_from(ApiToken).where(ApiToken.user_id == user.id, _good())
            if (await session.scalar(mine) or 0) >= MOST_TOKENS:
                raise LimitExceededError(f"A user has up to {MOST_TOKENS} API tokens.", "TOO_MANY_API_TOKENS")
            session.add(token)
        return token, secret

    async def of_user(self, user_id: str) -> list[ApiToken]:
        """A user's tokens that are good, newest first."""
        query = select(ApiToken).where(ApiToken.user_id == user_id, _good())
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
        """Whose token this is.

        Raises:
            UnauthenticatedError: unknown, expired or ended, or its user is disabled (reason BAD_API_TOKEN).
        """
        query = select(ApiToken).where(ApiToken.digest == digest(secret), _good())
        async with self._database.write() as session:
            owner = await session.scalar(query.with_only_columns(ApiToken.user_id))
            user = await locked_user(session, owner or "")
            # Not sooner: the transaction that held the lock may have ended it.
            token = await session.scalar(query.with_for_update())
            if user is None or user.disabled or token is None:
                raise UnauthenticatedError("The API token is not valid (any more).", "BAD_API_TOKEN")
            token.last_use_time = now()
            return user, token

    async def purge(self) -> None:
        """Forgets tokens that ended or expired, once nothing depends on them."""
        before = now() - KEPT_AFTER_END
        async with self._database.write() as session:
            await session.execute(
                delete(ApiToken).where(or_(ApiToken.end_time < before, ApiToken.expire_time < before))
            )

    async def _check_fresh(self, session: AsyncSession, caller: Identity) -> None:
        begun = await session.get(Session, caller.session_id)
        # Both ways: a clock that was set back does not make an old sign-in a fresh one.
        if begun is None or abs(now() - begun.create_time) >= self._fresh:
            raise PermissionDeniedError("Give your password to make an API token.", "PASSWORD_REQUIRED")


async def end_api_tokens(session: AsyncSession, user_id: str, *, only: str = "") -> int:
    """Ends API tokens of a user within a transaction: all, or one.

    Returns:
        How many were good.
    """
    ending = update(ApiToken).where(ApiToken.user_id == user_id, _good()).values(end_time=now())
    if only:
        ending = ending.where(ApiToken.id == only)
    ended = await session.scalars(ending.returning(ApiToken.id).execution_options(synchronize_session=False))
    return len(list(ended))


def _good() -> ColumnElement[bool]:
    return and_(ApiToken.end_time.is_(None), ApiToken.expire_time > now())
