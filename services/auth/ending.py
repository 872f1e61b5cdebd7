"""Ends sessions and API tokens, within the transaction that takes a user's rights away."""

from datetime import datetime

from sqlalchemy import ColumnElement, and_, case, literal, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.auth.tables import ApiToken, Session
from services.auth.times import now


async def end_sessions(session: AsyncSession, user_id: str, *, only: str = "", but: str = "") -> int:
    """Ends open sessions of a user.

    Args:
        session: of the transaction.
        user_id: whose sessions.
        only: id of the one session to end; empty for all.
        but: id of a session to leave open; empty for none.

    Returns:
        How many were open.
    """
    ending = (
        update(Session).where(Session.user_id == user_id, Session.end_time.is_(None)).values(end_time=ends_at(Session))
    )
    if only:
        ending = ending.where(Session.id == only)
    if but:
        ending = ending.where(Session.id != but)
    ended = await session.scalars(ending.returning(Session.id).execution_options(synchronize_session=False))
    return len(list(ended))


async def end_api_tokens(session: AsyncSession, user_id: str, *, only: str = "") -> int:
    """Ends valid API tokens of a user.

    Args:
        session: of the transaction.
        user_id: whose tokens.
        only: id of the one token to end; empty for all.

    Returns:
        How many were valid.
    """
    ending = update(ApiToken).where(ApiToken.user_id == user_id, is_valid_token()).values(end_time=ends_at(ApiToken))
    if only:
        ending = ending.where(ApiToken.id == only)
    ended = await session.scalars(ending.returning(ApiToken.id).execution_options(synchronize_session=False))
    return len(list(ended))


def is_valid_token() -> ColumnElement[bool]:
    """The condition that an API token has neither ended nor expired."""
    return and_(ApiToken.end_time.is_(None), ApiToken.expire_time > now())


def ends_at(table: type[Session] | type[ApiToken]) -> ColumnElement[datetime]:
    """The end time of a session or API token that ends now.

    If the clock was set back after its last use, this is the time of that use: the access token from then is valid for
    some more time, and services must refuse it until it expires.
    """
    time: ColumnElement[datetime] = literal(now())
    for other in (table.last_use_time, table.create_time):
        time = case((other > time, other), else_=time)
    return time


def used_at(used: Session | ApiToken) -> datetime:
    """The time of a use at this moment; never before the last one, even if the clock was set back (see `ends_at`)."""
    return max(now(), used.last_use_time or used.create_time)
