"""Expired rows are deleted from time to time."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import update

from services.auth.api_tokens.api_tokens import ApiTokens
from services.auth.invitations.invitations import Invitations
from services.auth.sessions.sessions import Sessions
from services.auth.sessions.throttle import Throttle, account
from services.auth.tables import ApiToken, Attempts, Invitation
from services.auth.users.repository import UserRepository
from services.common.storage.database import Database
from tests.auth.conftest import MINUTE, MONTH
from tests.auth.storing import calling, count, new_admin


async def test_purging_deletes_expired_tokens_invitations_and_attempts(databases: list[Database]) -> None:
    user = await new_admin(UserRepository(databases[0]))
    tokens, invitations, throttle = ApiTokens(databases[0], MINUTE), Invitations(databases[1]), Throttle(databases[2])
    me = await calling(Sessions(databases[0], MONTH, MINUTE), user)
    kept, _ = await tokens.create(me, "kept", ["read"], MONTH, checked=user)
    ended, _ = await tokens.create(me, "ended", ["read"], MONTH, checked=user)
    await tokens.end(user.id, ended.id)
    await invitations.create(1, MINUTE, by=me)
    await throttle.begin(account("ada"))
    for purge in (tokens.purge, invitations.purge, throttle.purge):
        await purge()
    assert [await count(databases[0], table) for table in (ApiToken, Invitation, Attempts)] == [2, 1, 1]
    async with databases[0].write() as session:
        long_ago = datetime.now(UTC) - timedelta(days=3)
        await session.execute(update(ApiToken).where(ApiToken.id == ended.id).values(end_time=long_ago))
        await session.execute(update(Invitation).values(expire_time=long_ago))
        await session.execute(update(Attempts).values(last_time=long_ago))
    for purge in (tokens.purge, invitations.purge, throttle.purge):
        await purge()
    assert [await count(databases[0], table) for table in (ApiToken, Invitation, Attempts)] == [1, 0, 0]
    assert [token.id for token in await tokens.of_user(user.id)] == [kept.id]
