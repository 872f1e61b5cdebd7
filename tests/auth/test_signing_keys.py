"""The keys that sign access tokens change while tokens are in use."""

import asyncio

import jwt

from services.common.errors import Code
from stemtube.auth.v1 import auth_pb2
from tests.auth.calling import Caller, refusal
from tests.auth.running import RunningAuth


async def test_keys_change_and_no_token_is_refused(auth: RunningAuth, admin: Caller) -> None:
    new = (await admin("RotateSigningKey")).key_id
    published = (await auth.stub.ListSigningKeys(auth_pb2.ListSigningKeysRequest())).keys
    assert len(published) == 2
    # The new one signs once every service must know it.
    again = await auth.login()
    assert jwt.get_unverified_header(again.access_token)["kid"] != new
    assert await auth.me(again.access_token) == await auth.me(admin.token)

    withdrawn = (await admin("RotateSigningKey", withdraw_older=True)).key_id
    await asyncio.sleep(1.1)
    assert await refusal(auth.me(admin.token)) == (Code.UNAUTHENTICATED, "BAD_TOKEN")
    renewed = await auth.refresh(admin.session.refresh_token)
    assert jwt.get_unverified_header(renewed.access_token)["kid"] == withdrawn
    assert await auth.me(renewed.access_token) == admin.session.user
