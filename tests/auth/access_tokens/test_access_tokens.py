"""Access tokens of users."""

import base64
import hashlib
import hmac
import json
import time
from datetime import timedelta

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.auth.access_tokens.issuer import SigningKey, sign
from services.auth.access_tokens.keys import KeyRing
from services.common.errors import Code
from services.common.rpc.auth import Identity
from services.common.storage.database import Database
from stemtube.auth.v1 import access_token_pb2
from tests.auth.calling import refused
from tests.auth.running import RunningAuth, database_file


async def own_key(auth: RunningAuth) -> SigningKey:
    """The key that the service signs with."""
    async with Database(auth.settings.database_url) as database:
        return await KeyRing(database, timedelta(minutes=15), timedelta(days=1)).signing_key()


def b64(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


async def test_an_access_token_says_who_its_bearer_is(auth: RunningAuth) -> None:
    session = await auth.login()
    header = jwt.get_unverified_header(session.access_token)
    keys = (await auth.stub.ListSigningKeys(access_token_pb2.ListSigningKeysRequest())).keys
    assert (header["alg"], header["kid"]) == ("EdDSA", keys[0].key_id)
    claims = jwt.decode(session.access_token, options={"verify_signature": False})
    assert set(claims) == {"iss", "aud", "sub", "name", "kind", "admin", "sid", "iat", "exp", "jti"}
    assert (claims["sub"], claims["name"], claims["kind"], claims["admin"]) == (session.user.id, "admin", "user", True)
    assert (claims["iss"], claims["aud"]) == ("stemtube-auth", "stemtube")
    assert claims["exp"] - claims["iat"] == 15 * 60
    again = jwt.decode((await auth.login()).access_token, options={"verify_signature": False})
    assert (again["jti"], again["sid"]) != (claims["jti"], claims["sid"])


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
        error = await refused(auth.me(token))
        assert (error.code, error.reason) == (Code.UNAUTHENTICATED, reason)


async def test_a_valid_token_of_a_deleted_account_is_refused(auth: RunningAuth) -> None:
    token = (await auth.login()).access_token
    with database_file(auth) as file:
        file.execute("DELETE FROM users")
    file.close()
    error = await refused(auth.me(token))
    assert (error.code, error.reason) == (Code.NOT_FOUND, "NO_SUCH_USER")
