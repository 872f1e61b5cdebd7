"""The keys that sign access tokens change while tokens are in use."""

import asyncio
from datetime import timedelta

import jwt

from services.auth.access_tokens.keys import KeyRing
from services.auth.tables import StoredKey
from services.common.errors import Code
from services.common.storage.database import Database
from stemtube.auth.v1 import access_token_pb2
from tests.auth.calling import Caller, refusal
from tests.auth.conftest import MINUTE, MONTH
from tests.auth.running import RunningAuth
from tests.auth.storing import count


async def test_keys_change_and_no_token_is_refused(auth: RunningAuth, admin: Caller) -> None:
    new = (await admin("RotateSigningKey")).key_id
    published = (await auth.stub.ListSigningKeys(access_token_pb2.ListSigningKeysRequest())).keys
    assert len(published) == 2
    # The new key signs as soon as every service must know it.
    again = await auth.login()
    assert jwt.get_unverified_header(again.access_token)["kid"] != new
    assert await auth.me(again.access_token) == await auth.me(admin.token)

    withdrawn = (await admin("RotateSigningKey", withdraw_older=True)).key_id
    await asyncio.sleep(1.1)
    assert await refusal(auth.me(admin.token)) == (Code.UNAUTHENTICATED, "BAD_TOKEN")
    renewed = await auth.refresh(admin.session.refresh_token)
    assert jwt.get_unverified_header(renewed.access_token)["kid"] == withdrawn
    assert await auth.me(renewed.access_token) == admin.session.user


async def made_earlier(database: Database, key_id: str, **earlier: float) -> None:
    async with database.write() as session:
        key = await session.get_one(StoredKey, key_id)
        key.create_time -= timedelta(**earlier)


async def test_replicas_that_start_at_once_share_one_signing_key(
    databases: list[Database],
) -> None:
    rings = [KeyRing(database, MINUTE, MONTH) for database in databases]
    keys = await asyncio.gather(*(ring.signing_key() for ring in rings))
    assert len({key.key_id for key in keys}) == 1
    assert await count(databases[0], StoredKey) == 1


async def test_a_key_is_replaced_when_it_is_old_and_forgotten_when_its_tokens_are(databases: list[Database]) -> None:
    def ring(number: int) -> KeyRing:  # one that has read nothing yet
        return KeyRing(databases[number], MINUTE, MONTH)

    first = (await ring(0).signing_key()).key_id
    await ring(0).maintain()
    assert set(await ring(1).public_keys()) == {first}
    await made_earlier(databases[0], first, days=31)
    for number in range(3):
        await ring(number).maintain()
    (second,) = set(await ring(1).public_keys()) - {first}
    assert (await ring(2).signing_key()).key_id == first  # some services may not know the second yet
    await made_earlier(databases[0], second, minutes=3)
    assert (await ring(2).signing_key()).key_id == second
    await ring(0).maintain()
    assert set(await ring(1).public_keys()) == {first, second}
    await made_earlier(databases[0], second, hours=23)
    await ring(0).maintain()
    assert set(await ring(1).public_keys()) == {first, second}  # streams that the first let in may still be open
    await made_earlier(databases[0], second, hours=2)
    await ring(0).maintain()
    assert set(await ring(1).public_keys()) == {second}
