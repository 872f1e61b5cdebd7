import asyncio
import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from services.common.errors import PermissionDeniedError, UnauthenticatedError, UnavailableError
from services.common.rpc.auth import (
    Identity,
    PublicKeys,
    ServiceIdentity,
    TokenVerifier,
    caller,
    require_scope,
    require_service,
    require_user,
    set_caller,
)

KEY = Ed25519PrivateKey.generate()
OTHER_KEY = Ed25519PrivateKey.generate()


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    standard = {"iss": "stemtube-auth", "aud": "stemtube", "sub": "u1", "kind": "user", "iat": now, "exp": now + 3600}
    return {name: value for name, value in (standard | changes).items() if value is not None}


def token(key: Ed25519PrivateKey = KEY, kid: str = "k1", **changes: Any) -> str:
    return jwt.encode(claims(**changes), key, algorithm="EdDSA", headers={"kid": kid})


class Auth:
    """A source of keys that can be slow or fail."""

    def __init__(self) -> None:
        self.keys: PublicKeys = {"k1": KEY.public_key()}
        self.calls = 0
        self.answers = True
        self.seconds = 0.0

    async def fetch(self) -> PublicKeys:
        self.calls += 1
        await asyncio.sleep(self.seconds)
        if not self.answers:
            raise UnavailableError("connection refused")
        return dict(self.keys)


@pytest.fixture
def auth() -> Auth:
    return Auth()


async def test_a_token_identifies_the_caller(auth: Auth) -> None:
    verifier = TokenVerifier(auth.fetch)
    assert await verifier.verify(token(name="ada", admin=True, sid="s1")) == Identity("u1", "ada", "user", True, "s1")
    assert (await verifier.verify(token(kind="service", sub="download"))).kind == "service"
    assert auth.calls == 1


def b64(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def unsigned() -> str:
    header = {"alg": "none", "kid": "k1", "typ": "JWT"}
    return f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims()).encode())}."


def signed_with_the_public_key_as_hmac_secret(encoding: Encoding, form: PublicFormat) -> str:
    secret = KEY.public_key().public_bytes(encoding, form)
    header = {"alg": "HS256", "kid": "k1", "typ": "JWT"}
    body = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims()).encode())}"
    return f"{body}.{b64(hmac.digest(secret, body.encode(), hashlib.sha256))}"


@pytest.mark.parametrize(
    "forged",
    [
        "",
        "x",
        "a.b.c",
        token()[:-4],
        token(OTHER_KEY),
        token(kid="unknown"),
        jwt.encode(claims(), KEY, algorithm="EdDSA"),
        token(iss="somebody"),
        token(aud="something"),
        token(iss=None),
        token(aud=None),
        token(exp=None),
        token(iat=None),
        token(sub=None),
        token(kind=None),
        token(kind="admin"),
        token(iat=int(time.time()) + 3600),
        unsigned(),
        signed_with_the_public_key_as_hmac_secret(Encoding.Raw, PublicFormat.Raw),
        signed_with_the_public_key_as_hmac_secret(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    ],
)
async def test_a_forged_token_is_refused(auth: Auth, forged: str) -> None:
    with pytest.raises(UnauthenticatedError) as refusal:
        await TokenVerifier(auth.fetch).verify(forged)
    assert refusal.value.reason == "BAD_TOKEN"


async def test_an_expired_token_is_refused_and_clocks_may_differ_by_seconds(auth: Auth) -> None:
    now = int(time.time())
    verifier = TokenVerifier(auth.fetch)
    await verifier.verify(token(iat=now + 5, exp=now + 60))
    await verifier.verify(token(exp=now - 3))
    with pytest.raises(UnauthenticatedError) as refusal:
        await verifier.verify(token(exp=now - 30))
    assert refusal.value.reason == "TOKEN_EXPIRED"


async def test_a_new_key_is_found_and_a_withdrawn_one_forgotten(auth: Auth) -> None:
    verifier = TokenVerifier(auth.fetch, refresh_seconds=0.1, retry_seconds=0.01)
    await verifier.verify(token())
    auth.keys = {"k2": OTHER_KEY.public_key()}
    await asyncio.sleep(0.02)
    await verifier.verify(token(OTHER_KEY, "k2"))
    with pytest.raises(UnauthenticatedError):
        await verifier.verify(token())

    auth.keys = {"k1": KEY.public_key()}
    await asyncio.sleep(0.15)
    with pytest.raises(UnauthenticatedError):
        await verifier.verify(token(OTHER_KEY, "k2"))


async def test_made_up_key_ids_do_not_flood_auth(auth: Auth) -> None:
    verifier = TokenVerifier(auth.fetch)
    for number in range(50):
        with pytest.raises(UnauthenticatedError):
            await verifier.verify(token(OTHER_KEY, f"made-up-{number}"))
    assert auth.calls == 1


async def test_callers_that_wait_for_the_keys_share_one_request(auth: Auth) -> None:
    auth.seconds = 0.05
    verifier = TokenVerifier(auth.fetch)
    await asyncio.gather(*(verifier.verify(token()) for _ in range(20)))
    assert auth.calls == 1


async def test_a_caller_that_leaves_does_not_cancel_the_keys_for_others(auth: Auth) -> None:
    auth.seconds = 0.05
    verifier = TokenVerifier(auth.fetch)
    first = asyncio.create_task(verifier.verify(token()))
    second = asyncio.create_task(verifier.verify(token()))
    await asyncio.sleep(0.01)
    first.cancel()
    assert (await second).subject == "u1"


async def test_while_auth_is_away_known_keys_stay_valid_and_others_are_unavailable(auth: Auth) -> None:
    verifier = TokenVerifier(auth.fetch, refresh_seconds=0.01, retry_seconds=0.01)
    await verifier.verify(token())
    auth.answers = False
    await asyncio.sleep(0.02)
    assert (await verifier.verify(token())).subject == "u1"
    with pytest.raises(UnavailableError) as outage:
        await verifier.verify(token(OTHER_KEY, "k2"))
    assert outage.value.reason == "AUTH_UNAVAILABLE"
    auth.answers = True
    await asyncio.sleep(0.02)
    with pytest.raises(UnauthenticatedError):
        await verifier.verify(token(OTHER_KEY, "k2"))


async def test_a_hanging_auth_delays_known_callers_by_a_second_at_most_and_once(auth: Auth) -> None:
    verifier = TokenVerifier(auth.fetch, refresh_seconds=0.01, retry_seconds=0.01)
    await verifier.verify(token())
    auth.seconds = 60
    await asyncio.sleep(0.02)
    started = time.monotonic()
    await asyncio.gather(*(verifier.verify(token()) for _ in range(20)))
    assert time.monotonic() - started < 1.5
    started = time.monotonic()
    for _ in range(5):
        await verifier.verify(token())
    assert time.monotonic() - started < 0.5
    assert auth.calls == 2


async def test_there_is_a_caller_only_in_its_own_rpc() -> None:
    async def rpc(identity: Identity) -> str:
        set_caller(identity)
        await asyncio.sleep(0)
        return caller().subject

    identities = [Identity(name, name, "user") for name in ("ada", "bob", "cleo")]
    assert await asyncio.gather(*(asyncio.create_task(rpc(one)) for one in identities)) == ["ada", "bob", "cleo"]
    with pytest.raises(UnauthenticatedError):
        caller()


async def test_users_and_services_are_distinguished() -> None:
    set_caller(Identity("u1", "ada", "user"))
    assert require_user().subject == "u1"
    with pytest.raises(PermissionDeniedError) as refusal:
        require_service()
    assert refusal.value.reason == "SERVICE_REQUIRED"
    set_caller(Identity("download", "download", "service"))
    assert require_service().subject == "download"
    with pytest.raises(PermissionDeniedError) as refusal:
        require_user()
    assert refusal.value.reason == "USER_REQUIRED"


class Issuer:
    def __init__(self, lifetime: float) -> None:
        self.lifetime = lifetime
        self.calls = 0
        self.answers = True
        self.open = asyncio.Event()
        self.open.set()

    async def issue(self) -> tuple[str, float]:
        self.calls += 1
        await self.open.wait()
        if not self.answers:
            raise UnavailableError("connection refused")
        return f"token-{self.calls}", self.lifetime


async def bearer_of(identity: ServiceIdentity) -> str:
    ((name, value),) = await identity.metadata()
    assert name == "authorization"
    return value


async def test_a_services_token_is_kept_until_it_nearly_expires() -> None:
    issuer = Issuer(lifetime=0.4)
    identity = ServiceIdentity(issuer.issue)
    assert await asyncio.gather(*(bearer_of(identity) for _ in range(5))) == ["Bearer token-1"] * 5
    await asyncio.sleep(0.25)
    assert await bearer_of(identity) == "Bearer token-1"
    await asyncio.sleep(0.01)
    assert await bearer_of(identity) == "Bearer token-2"


async def test_nobody_waits_while_a_valid_token_is_renewed() -> None:
    issuer = Issuer(lifetime=2.0)
    identity = ServiceIdentity(issuer.issue)
    await identity.metadata()
    await asyncio.sleep(1.05)
    issuer.open.clear()
    async with asyncio.timeout(0.5):
        for _ in range(10):
            assert await bearer_of(identity) == "Bearer token-1"
            await asyncio.sleep(0)
    assert issuer.calls == 2
    issuer.open.set()
    await asyncio.sleep(0.01)
    assert await bearer_of(identity) == "Bearer token-2"


async def test_a_services_token_is_used_until_it_expires_while_auth_is_away() -> None:
    issuer = Issuer(lifetime=0.4)
    identity = ServiceIdentity(issuer.issue, retry_seconds=0.05)
    await identity.metadata()
    issuer.answers = False
    await asyncio.sleep(0.25)
    for _ in range(10):
        assert await bearer_of(identity) == "Bearer token-1"
        await asyncio.sleep(0)
    assert issuer.calls == 2
    await asyncio.sleep(0.2)
    for _ in range(10):
        with pytest.raises(UnavailableError):
            await identity.metadata()
    assert issuer.calls == 3
    issuer.answers = True
    await asyncio.sleep(0.06)
    assert await bearer_of(identity) == "Bearer token-4"


@pytest.mark.parametrize("seconds", [3600, -3600])
async def test_a_service_gets_another_token_when_the_clock_is_set(
    monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    issuer = Issuer(lifetime=900)
    identity = ServiceIdentity(issuer.issue)
    assert await bearer_of(identity) == "Bearer token-1"
    shifted, real = time.time() + seconds - time.monotonic(), time.monotonic
    monkeypatch.setattr("services.common.rpc.auth.time.time", lambda: shifted + real())
    assert [await bearer_of(identity) for _ in range(3)] == ["Bearer token-2"] * 3


async def test_a_service_gets_another_token_when_one_is_refused(auth: Auth) -> None:
    issuer = Issuer(lifetime=900)
    identity = ServiceIdentity(issuer.issue, retry_seconds=0.2)
    assert await bearer_of(identity) == "Bearer token-1"
    identity.refused()
    assert await bearer_of(identity) == "Bearer token-1"  # perhaps newer than the refusal
    await asyncio.sleep(0.25)
    for _ in range(3):
        identity.refused()
    assert await bearer_of(identity) == "Bearer token-2"
    assert issuer.calls == 2


async def test_an_ended_session_is_refused_before_its_token_expires(auth: Auth) -> None:
    ended: set[str] = set()

    async def fetch_ended() -> frozenset[str]:
        return frozenset(ended)

    verifier = TokenVerifier(auth.fetch, fetch_ended, refresh_seconds=0.1, retry_seconds=0.01)
    identity = await verifier.verify(token(sid="s1"))
    waiting = asyncio.create_task(verifier.until_ended(identity))
    await asyncio.sleep(0.15)
    assert not waiting.done()
    ended.add("s1")
    with pytest.raises(UnauthenticatedError) as refusal:
        await asyncio.wait_for(waiting, 10)
    assert refusal.value.reason == "SESSION_ENDED"
    with pytest.raises(UnauthenticatedError) as refusal:
        await verifier.verify(token(sid="s1"))
    assert refusal.value.reason == "SESSION_ENDED"
    assert (await verifier.verify(token(sid="s2"))).session_id == "s2"
    assert (await verifier.verify(token(kind="service"))).kind == "service"


async def test_rpcs_begun_with_a_withdrawn_key_end(auth: Auth) -> None:
    verifier = TokenVerifier(auth.fetch, refresh_seconds=0.1, retry_seconds=0.01)
    auth.keys["k2"] = OTHER_KEY.public_key()
    old, new = [
        asyncio.create_task(verifier.until_ended(await verifier.verify(made)))
        for made in (token(sid="s1"), token(OTHER_KEY, "k2", sid="s2"))
    ]
    del auth.keys["k1"]
    with pytest.raises(UnauthenticatedError) as refusal:
        await asyncio.wait_for(old, 10)
    assert refusal.value.reason == "BAD_TOKEN"
    auth.answers = False  # while auth is away, running RPCs continue
    await asyncio.sleep(0.2)
    assert not new.done()
    new.cancel()


@pytest.mark.parametrize(
    ("scopes", "method", "reason"),
    [
        (None, "/a.B/DeleteTrack", None),
        ({"read"}, "/a.B/GetTrack", None),
        ({"read"}, "/a.B/WatchJob", None),
        ({"read"}, "/a.B/DeleteTrack", "INSUFFICIENT_SCOPE"),
        ({"read"}, "/a.B/Rename", "INSUFFICIENT_SCOPE"),
        ({"write"}, "/a.B/DeleteTrack", None),
        ({"write"}, "/a.B/GetTrack", "INSUFFICIENT_SCOPE"),
        ({"read", "write", "admin"}, "/a.B/Special", "INSUFFICIENT_SCOPE"),
        ({"change-password"}, "/a.B/GetTrack", "PASSWORD_CHANGE_REQUIRED"),
        (set(), "/a.B/GetTrack", "INSUFFICIENT_SCOPE"),
    ],
)
def test_a_token_with_scopes_is_valid_for_their_rpcs_only(
    scopes: set[str] | None, method: str, reason: str | None
) -> None:
    identity = Identity("u1", "ada", "user", scopes=None if scopes is None else frozenset(scopes))
    accepted = {"/a.B/Special": frozenset[str]()}
    if reason is None:
        require_scope(identity, method, accepted)
    else:
        with pytest.raises(PermissionDeniedError) as refusal:
            require_scope(identity, method, accepted)
        assert refusal.value.reason == reason
