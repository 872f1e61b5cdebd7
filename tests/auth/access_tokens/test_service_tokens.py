"""Access tokens of services."""

import asyncio

import pytest

from services.auth.access_tokens.service import SERVICES
from services.common.errors import Code
from services.common.rpc.auth import Identity, ServiceIdentity, TokenVerifier
from services.common.rpc.client import AuthClient, RemoteError
from tests.auth.calling import Caller, refused
from tests.auth.running import RunningAuth


async def test_a_service_proves_itself_with_the_secret_of_the_suite(auth: RunningAuth) -> None:
    client = AuthClient(auth.channel, "download", auth.settings.shared_service_secret())
    verifier = TokenVerifier(client.signing_keys)
    ((_, value),) = await ServiceIdentity(client.issue_token).metadata()
    identity = await verifier.verify(value.removeprefix("Bearer "))
    assert identity == Identity("download", "download", "service")
    for service in SERVICES:
        await auth.service_token(service, auth.settings.shared_service_secret())


async def test_a_caller_with_a_wrong_secret_is_refused(auth: RunningAuth) -> None:
    secret = auth.settings.shared_service_secret()
    for service in ("download", "nonsense"):
        for wrong in ("", "wrong", secret[:-1], secret + "x", "é"):
            error = await refused(auth.service_token(service, wrong))
            assert (error.code, error.reason) == (Code.UNAUTHENTICATED, "BAD_CREDENTIALS")
    for service in ("", "nonsense", "auth", "Download"):
        error = await refused(auth.service_token(service, secret))
        assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "UNKNOWN_SERVICE")


async def test_a_service_is_no_user(auth: RunningAuth) -> None:
    token = await auth.service_token("gateway", auth.settings.shared_service_secret())
    error = await refused(auth.me(token))
    assert (error.code, error.reason) == (Code.PERMISSION_DENIED, "USER_REQUIRED")


async def test_a_service_gets_another_token_after_its_key_was_withdrawn(auth: RunningAuth, admin: Caller) -> None:
    client = AuthClient(auth.channel, "download", auth.settings.shared_service_secret())
    identity = ServiceIdentity(client.issue_token, retry_seconds=0.01)
    await client.ended_sessions(identity)
    await admin("RotateSigningKey", withdraw_older=True)
    await asyncio.sleep(1.1)
    with pytest.raises(RemoteError) as refusal:
        await client.ended_sessions(identity)
    assert refusal.value.reason == "BAD_TOKEN"
    await client.ended_sessions(identity)
