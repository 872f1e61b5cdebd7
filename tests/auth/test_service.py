import asyncio
import base64
import hashlib
import hmac
import json
import sqlite3
import time
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import grpc.aio
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from structlog.testing import capture_logs

from services.auth.keys import KeyRing
from services.auth.service import PUBLIC, SERVICES
from services.auth.tokens import SigningKey, sign
from services.common.errors import Code
from services.common.rpc.auth import Identity, ServiceIdentity, TokenVerifier
from services.common.rpc.client import AuthClient, RemoteError, domain_error, open_channel
from services.common.storage.database import Database
from stemtube.auth.v1 import auth_pb2
from tests.auth.running import ADMIN_PASSWORD, RunningAuth, auth_settings, running_auth


async def refusal(call: Awaitable[Any]) -> RemoteError:
    """The error that an RPC ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return domain_error(refused.value)


async def own_key(auth: RunningAuth) -> SigningKey:
    """The key that the service signs with."""
    async with Database(auth.settings.database_url) as database:
        return await KeyRing(database, timedelta(minutes=15), timedelta(days=1)).signing_key()


def database_file(auth: RunningAuth) -> sqlite3.Connection:
    return sqlite3.connect(auth.settings.data_dir / "databases" / "auth.sqlite")


async def test_signing_in_gives_tokens_and_the_user(auth: RunningAuth) -> None:
    session = await auth.login()
    assert session.user.username == "admin"
    assert session.user.admin
    assert abs(session.user.create_time.ToDatetime(UTC) - datetime.now(UTC)) < timedelta(minutes=1)
    assert session.expires_in.ToTimedelta() == timedelta(minutes=15)
    assert session.refresh_expires_in.ToTimedelta() == timedelta(days=30)
    assert await auth.me(session.access_token) == session.user


async def test_an_access_token_says_who_its_bearer_is(auth: RunningAuth) -> None:
    session = await auth.login()
    header = jwt.get_unverified_header(session.access_token)
    keys = (await auth.stub.ListSigningKeys(auth_pb2.ListSigningKeysRequest())).keys
    assert (header["alg"], header["kid"]) == ("EdDSA", keys[0].key_id)
    claims = jwt.decode(session.access_token, options={"verify_signature": False})
    assert set(claims) == {"iss", "aud", "sub", "name", "kind", "admin", "sid", "iat", "exp", "jti"}
    assert (claims["sub"], claims["name"], claims["kind"], claims["admin"]) == (session.user.id, "admin", "user", True)
    assert (claims["iss"], claims["aud"]) == ("stemtube-auth", "stemtube")
    assert claims["exp"] - claims["iat"] == 15 * 60
    again = jwt.decode((await auth.login()).access_token, options={"verify_signature": False})
    assert (again["jti"], again["sid"]) != (claims["jti"], claims["sid"])


async def test_case_and_encoding_of_a_name_do_not_matter(tmp_path: Path) -> None:
    async with running_auth(auth_settings(tmp_path, admin_username="Zoë")) as auth:
        for name in ("Zoë", "ZOË", "zoe\N{COMBINING DIAERESIS}"):
            assert (await auth.login(name)).user.username == "Zoë"


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("admin", "wrong password"),
        ("admin", ""),
        ("admin", ADMIN_PASSWORD + " "),
        ("admin", ADMIN_PASSWORD.upper()),
        ("admin", "x" * 100_000),
        ("nobody", ADMIN_PASSWORD),
        ("", ""),
        ("a" * 100_000, ADMIN_PASSWORD),
        ("admin' OR '1'='1", ADMIN_PASSWORD),
    ],
    ids=lambda value: value[:20],
)
async def test_a_wrong_password_and_an_unknown_user_are_told_alike(
    auth: RunningAuth, username: str, password: str
) -> None:
    error = await refusal(auth.login(username, password))
    assert error.code is Code.UNAUTHENTICATED
    assert (error.reason, error.message) == ("BAD_CREDENTIALS", "Unknown user or wrong password.")


async def test_no_byte_of_a_long_password_is_ignored(tmp_path: Path) -> None:
    password = "ä" * 100
    async with running_auth(auth_settings(tmp_path, password)) as auth:
        await auth.login(password=password)
        for other in (password[:-1], password[:36], password[:-1] + "a", password + "ä"):
            assert (await refusal(auth.login(password=other))).reason == "BAD_CREDENTIALS"


async def test_a_password_is_hashed_anew_when_the_cost_setting_changes(tmp_path: Path) -> None:
    for cost, after_start, after_login in ((4, "$2b$04$", "$2b$04$"), (5, "$2b$04$", "$2b$05$")):
        async with running_auth(auth_settings(tmp_path, bcrypt_cost=cost)) as auth:
            with database_file(auth) as file:
                query = "SELECT password_hash FROM users"
                assert file.execute(query).fetchone()[0].startswith(after_start)
                await auth.login()
                assert file.execute(query).fetchone()[0].startswith(after_login)
                await auth.login()
            file.close()


def b64(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


async def test_only_tokens_that_auth_signed_are_accepted(auth: RunningAuth) -> None:
    key = await own_key(auth)
    user = (await auth.login()).user
    ada = Identity(user.id, "admin", "user", admin=True)
    minute = timedelta(minutes=1)
    assert await auth.me(sign(key, ada, minute)) == user

    foreign = Ed25519PrivateKey.generate()
    now = int(time.time())
    claims = {"iss": "stemtube-auth", "aud": "stemtube", "sub": user.id, "kind": "user", "iat": now, "exp": now + 60}
    payload = b64(json.dumps(claims).encode())
    unsigned = f"{b64(json.dumps({'alg': 'none', 'kid': key.key_id}).encode())}.{payload}."
    confused = f"{b64(json.dumps({'alg': 'HS256', 'kid': key.key_id}).encode())}.{payload}"
    mac = hmac.digest(key.public_key.public_bytes_raw(), confused.encode(), hashlib.sha256)
    for token, reason in (
        (None, "UNAUTHENTICATED"),
        ("", "UNAUTHENTICATED"),
        ("nonsense", "BAD_TOKEN"),
        (sign(key, ada, -minute), "TOKEN_EXPIRED"),
        (sign(SigningKey(key.key_id, foreign), ada, minute), "BAD_TOKEN"),
        (sign(SigningKey("foreign", foreign), ada, minute), "BAD_TOKEN"),
        (unsigned, "BAD_TOKEN"),
        (f"{confused}.{b64(mac)}", "BAD_TOKEN"),
    ):
        error = await refusal(auth.me(token))
        assert (error.code, error.reason) == (Code.UNAUTHENTICATED, reason)


async def test_the_account_of_a_valid_token_may_be_gone(auth: RunningAuth) -> None:
    token = (await auth.login()).access_token
    with database_file(auth) as file:
        file.execute("DELETE FROM users")
    file.close()
    error = await refusal(auth.me(token))
    assert (error.code, error.reason) == (Code.NOT_FOUND, "NO_SUCH_USER")


async def test_a_refresh_token_gives_the_next_one(auth: RunningAuth) -> None:
    first = await auth.login()
    second = await auth.refresh(first.refresh_token)
    third = await auth.refresh(second.refresh_token)
    assert len({first.refresh_token, second.refresh_token, third.refresh_token}) == 3
    assert await auth.me(third.access_token) == first.user
    ids = {jwt.decode(one.access_token, options={"verify_signature": False})["sid"] for one in (first, second, third)}
    assert len(ids) == 1


async def test_a_refresh_token_that_comes_back_ends_its_session_and_no_other(auth: RunningAuth) -> None:
    stolen, other = await auth.login(), await auth.login()
    heir = await auth.refresh(stolen.refresh_token)
    for token in (stolen.refresh_token, heir.refresh_token, stolen.refresh_token):
        error = await refusal(auth.refresh(token))
        assert (error.code, error.reason) == (Code.UNAUTHENTICATED, "BAD_REFRESH_TOKEN")
    await auth.refresh(other.refresh_token)


async def test_of_two_refreshes_at_once_one_is_told_that_the_session_ended(auth: RunningAuth) -> None:
    token = (await auth.login()).refresh_token
    results = await asyncio.gather(*(auth.refresh(token) for _ in range(5)), return_exceptions=True)
    renewed = [result for result in results if isinstance(result, auth_pb2.Session)]
    assert len(renewed) == 1
    assert (await refusal(auth.refresh(renewed[0].refresh_token))).reason == "BAD_REFRESH_TOKEN"


@pytest.mark.parametrize("token", ["", "nonsense", "x" * 100_000], ids=["empty", "nonsense", "long"])
async def test_an_unknown_refresh_token_is_refused(auth: RunningAuth, token: str) -> None:
    assert (await refusal(auth.refresh(token))).reason == "BAD_REFRESH_TOKEN"


async def test_a_refresh_token_expires(tmp_path: Path) -> None:
    async with running_auth(auth_settings(tmp_path, refresh_token_days=0.05 / 86400)) as auth:
        session = await auth.login()
        await asyncio.sleep(0.1)
        assert (await refusal(auth.refresh(session.refresh_token))).reason == "BAD_REFRESH_TOKEN"
        assert await auth.me(session.access_token) == session.user


async def test_refresh_tokens_are_stored_as_hashes_only(auth: RunningAuth) -> None:
    token = (await auth.login()).refresh_token
    files = (auth.settings.data_dir / "databases").glob("auth.sqlite*")
    content = b"".join(file.read_bytes() for file in files)
    assert token.encode() not in content
    assert ADMIN_PASSWORD.encode() not in content
    assert hashlib.sha256(token.encode()).digest() in content


async def test_signing_out_ends_the_session_once_and_for_all(auth: RunningAuth) -> None:
    session, other = await auth.login(), await auth.login()
    heir = await auth.refresh(session.refresh_token)
    for token in (session.refresh_token, session.refresh_token, heir.refresh_token, "unknown", ""):
        await auth.logout(token)
    assert (await refusal(auth.refresh(heir.refresh_token))).reason == "BAD_REFRESH_TOKEN"
    await auth.refresh(other.refresh_token)


async def test_a_service_proves_itself_with_the_secret_of_the_suite(auth: RunningAuth) -> None:
    client = AuthClient(auth.channel, "download", auth.settings.shared_service_secret())
    verifier = TokenVerifier(client.signing_keys)
    ((_, value),) = await ServiceIdentity(client.issue_token).metadata()
    identity = await verifier.verify(value.removeprefix("Bearer "))
    assert identity == Identity("download", "download", "service")
    for service in SERVICES:
        await auth.service_token(service, auth.settings.shared_service_secret())


async def test_who_does_not_know_the_secret_learns_nothing(auth: RunningAuth) -> None:
    secret = auth.settings.shared_service_secret()
    for service in ("download", "nonsense"):
        for wrong in ("", "wrong", secret[:-1], secret + "x", "é"):
            error = await refusal(auth.service_token(service, wrong))
            assert (error.code, error.reason) == (Code.UNAUTHENTICATED, "BAD_CREDENTIALS")
    for service in ("", "nonsense", "auth", "Download"):
        error = await refusal(auth.service_token(service, secret))
        assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "UNKNOWN_SERVICE")


async def test_a_service_is_no_user(auth: RunningAuth) -> None:
    token = await auth.service_token("gateway", auth.settings.shared_service_secret())
    error = await refusal(auth.me(token))
    assert (error.code, error.reason) == (Code.PERMISSION_DENIED, "USER_REQUIRED")


async def test_every_rpc_but_the_public_ones_refuses_a_stranger(auth: RunningAuth) -> None:
    service = auth_pb2.DESCRIPTOR.services_by_name["AuthService"]
    paths = {f"/{service.full_name}/{method.name}" for method in service.methods}
    assert set(PUBLIC) < paths
    for path in paths - set(PUBLIC):
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = auth.channel.unary_unary(path)
        error = await refusal(call(b""))
        assert error.code is Code.UNAUTHENTICATED


async def test_a_restart_keeps_users_keys_and_sessions(tmp_path: Path) -> None:
    async with running_auth(auth_settings(tmp_path)) as auth:
        session = await auth.login()
        keys = await auth.stub.ListSigningKeys(auth_pb2.ListSigningKeysRequest())
    async with running_auth(auth_settings(tmp_path, "another password is not taken")) as auth:
        assert await auth.stub.ListSigningKeys(auth_pb2.ListSigningKeysRequest()) == keys
        assert await auth.me(session.access_token) == session.user
        assert (await auth.refresh(session.refresh_token)).user == session.user
        assert (await auth.login()).user == session.user


async def test_replicas_accept_each_others_tokens(tmp_path: Path) -> None:
    async with running_auth(auth_settings(tmp_path)) as one, running_auth(auth_settings(tmp_path)) as other:
        session = await one.login()
        assert await other.me(session.access_token) == session.user
        assert await one.me((await other.refresh(session.refresh_token)).access_token) == session.user


async def test_without_a_given_password_a_random_one_is_left_in_a_private_file(tmp_path: Path) -> None:
    file = tmp_path / "secrets" / "admin-password"
    async with running_auth(auth_settings(tmp_path, "")) as auth:
        assert file.stat().st_mode & 0o777 == 0o600
        password = file.read_text().strip()
        assert len(password) >= 16
        await auth.login(password=password)
    file.unlink()
    async with running_auth(auth_settings(tmp_path, "")) as auth:
        assert not file.exists()
        await auth.login(password=password)


async def test_there_is_no_admin_if_the_password_cannot_be_kept(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "admin-password").mkdir()
    with pytest.raises(OSError, match="admin-password"):
        async with running_auth(auth_settings(tmp_path, "")):
            pass
    (tmp_path / "secrets" / "admin-password").rmdir()
    async with running_auth(auth_settings(tmp_path, "")) as auth:
        await auth.login(password=(tmp_path / "secrets" / "admin-password").read_text().strip())


async def test_a_fault_tells_the_log_what_happened_and_the_client_nothing(auth: RunningAuth) -> None:
    with database_file(auth) as file:
        file.execute("DROP TABLE users")
    file.close()
    with capture_logs() as lines:
        error = await refusal(auth.login())
    assert (error.code, error.reason) == (Code.INTERNAL, "INTERNAL")
    assert "users" not in error.message
    assert error.metadata == {}
    assert "failed" in [line["event"] for line in lines if line.get("exc_info")]


async def test_passwords_are_hashed_beside_the_event_loop(tmp_path: Path) -> None:
    async with running_auth(auth_settings(tmp_path, bcrypt_cost=13)) as auth:
        began = time.monotonic()
        login = asyncio.create_task(auth.login())
        slowest = 0.0
        while not login.done():
            started = time.monotonic()
            await auth.stub.ListSigningKeys(auth_pb2.ListSigningKeysRequest())
            slowest = max(slowest, time.monotonic() - started)
        await login
        assert slowest < (time.monotonic() - began) / 2


async def test_health_reflection_and_metrics_answer_without_a_token(auth: RunningAuth) -> None:
    health: Any = health_pb2_grpc.HealthStub(auth.channel)
    answer = await health.Check(health_pb2.HealthCheckRequest(service="stemtube.auth.v1.AuthService"))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING

    request = reflection_pb2.ServerReflectionRequest(file_containing_symbol="stemtube.auth.v1.AuthService")
    channel: Any = auth.channel
    reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    files = [
        FileDescriptorProto.FromString(file)
        async for answer in reflection.ServerReflectionInfo(iter([request]))
        for file in answer.file_descriptor_response.file_descriptor_proto
    ]
    assert any(service.name == "AuthService" for file in files for service in file.service)

    async with aiohttp.ClientSession(f"http://127.0.0.1:{auth.server.health_port}") as http:
        assert (await http.get("/readyz")).status == 200
        assert "stemtube_rpcs_total" in await (await http.get("/metrics")).text()


async def test_who_calls_an_auth_that_is_not_there_is_told_so() -> None:
    async with open_channel("127.0.0.1:1") as channel:
        with pytest.raises(RemoteError) as outage:
            await AuthClient(channel, "download", "secret").signing_keys()
        assert outage.value.code is Code.UNAVAILABLE
