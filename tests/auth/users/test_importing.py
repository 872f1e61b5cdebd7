"""Users of the old StemTube sign in with their old passwords."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc.aio
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from werkzeug.security import generate_password_hash

from services.auth.passwords.old_hashes import is_old, matches_old
from services.auth.tables import User
from services.common.errors import Code
from services.common.rpc.auth import bearer
from services.common.rpc.client import domain_error
from services.common.storage.database import Database
from stemtube.auth.v1 import import_pb2 as pb
from tests.auth.running import RunningAuth

METHODS = ["scrypt", "scrypt:1024:8:1", "pbkdf2:sha256", "pbkdf2:sha256:1000", "pbkdf2:sha512:10", "pbkdf2:sha1:5"]
CHEAP = "scrypt:1024:8:1"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("password", ["hunter2!", "pä55wört 🎸", ""])
def test_hashes_that_werkzeug_makes(method: str, password: str) -> None:
    hashed = generate_password_hash(password, method=method)
    assert is_old(hashed)
    assert matches_old(password, hashed)
    assert not matches_old(password + "x", hashed)


def test_a_known_vector_of_scrypt() -> None:
    # RFC 7914, section 12.
    digest = (
        "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b3731622eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d"
        "8360cbdfa2cc0640"
    )
    assert matches_old("password", f"scrypt:1024:8:16$NaCl${digest}")


@pytest.mark.parametrize(
    "hashed",
    [
        "",
        "plain",
        "$2b$04$" + "." * 53,
        "sha256$salt$" + "0" * 64,
        "pbkdf2:md5:1000$salt$" + "0" * 40,
        "pbkdf2:sha256:0$salt$" + "0" * 64,
        "pbkdf2:sha256:99999999$salt$" + "0" * 64,
        "pbkdf2:sha256:1000$salt$" + "0" * 40,
        "scrypt:1000:8:1$salt$" + "0" * 128,
        "scrypt:33554432:8:1$salt$" + "0" * 128,
        "scrypt:1024:8:999$salt$" + "0" * 128,
        "scrypt:1024:0:1$salt$" + "0" * 128,
    ],
)
def test_hashes_that_are_not_werkzeugs_or_too_costly_are_refused(hashed: str) -> None:
    assert not is_old(hashed)


def user(name: str, password: str = "guitar hero", **more: Any) -> pb.UserToImport:
    return pb.UserToImport(username=name, password_hash=generate_password_hash(password, method=CHEAP), **more)


async def imported(auth: RunningAuth, *users: pb.UserToImport, dry_run: bool = False) -> list[pb.ImportedUser]:
    token = (await auth.login()).access_token
    request = pb.ImportUsersRequest(users=users, dry_run=dry_run)
    return list((await auth.stub.ImportUsers(request, metadata=bearer(token), timeout=20)).users)


async def kept_hash(auth: RunningAuth, user_id: str) -> str:
    async with Database(auth.settings.database_url) as database, database.read() as session:
        return (await session.get_one(User, user_id)).password_hash


async def test_an_old_password_works_and_is_rehashed_at_the_next_sign_in(auth: RunningAuth) -> None:
    created = Timestamp()
    created.FromDatetime(datetime(2025, 3, 4, 5, tzinfo=UTC))
    (ann,) = await imported(auth, user("Ann", create_time=created))
    assert ann.outcome == pb.IMPORT_OUTCOME_ADDED
    assert (await kept_hash(auth, ann.user_id)).startswith(CHEAP)
    with pytest.raises(grpc.aio.AioRpcError):
        await auth.login("Ann", "wrong")
    assert (await kept_hash(auth, ann.user_id)).startswith(CHEAP)
    session = await auth.login("ann", "guitar hero")
    assert session.user.email == ""
    assert (session.user.id, session.user.admin) == (ann.user_id, False)
    assert session.user.create_time == created
    assert (await kept_hash(auth, ann.user_id)).startswith("$2b$04$")
    assert (await auth.login("ann", "guitar hero")).user.id == ann.user_id


async def test_a_second_import_changes_nothing(auth: RunningAuth) -> None:
    (first,) = await imported(auth, user("ann", admin=True))
    (again,) = await imported(auth, user("ANN", "another"))
    assert (again.outcome, again.user_id) == (pb.IMPORT_OUTCOME_PRESENT, first.user_id)
    session = await auth.login("ann", "guitar hero")
    assert session.user.admin


async def test_a_dry_run_reports_the_same_and_stores_nothing(auth: RunningAuth) -> None:
    users = user("ann"), user("admin"), user("Ann"), user(""), user("x" * 65), user("a\nb")
    told = await imported(auth, *users, dry_run=True)
    outcomes = [found.outcome for found in told]
    added, present, refused = pb.IMPORT_OUTCOME_ADDED, pb.IMPORT_OUTCOME_PRESENT, pb.IMPORT_OUTCOME_REFUSED
    assert outcomes == [added, present, refused, refused, refused, refused]
    assert all(bool(found.note) == (found.outcome == refused) for found in told)
    assert not told[0].user_id
    assert [found.outcome for found in await imported(auth, *users, dry_run=True)] == outcomes


async def test_a_password_that_cannot_be_imported_is_reported_and_does_not_work(auth: RunningAuth) -> None:
    plain = hashlib.sha256(b"guitar hero").hexdigest()
    (ann,) = await imported(auth, pb.UserToImport(username="ann", password_hash=plain))
    assert "password" in ann.note
    for guess in ("guitar hero", plain, ""):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await auth.login("ann", guess)
        assert domain_error(refused.value).reason == "BAD_CREDENTIALS"


async def test_admins_only(auth: RunningAuth) -> None:
    await imported(auth, user("ann"))
    token = (await auth.login("ann", "guitar hero")).access_token
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await auth.stub.ImportUsers(pb.ImportUsersRequest(), metadata=bearer(token), timeout=20)
    error = domain_error(refused.value)
    assert (error.code, error.reason) == (Code.PERMISSION_DENIED, "ADMIN_REQUIRED")


async def test_an_invalid_time_becomes_now(auth: RunningAuth) -> None:
    await imported(
        auth, user("ann", create_time=Timestamp(seconds=2**62)), user("ben", create_time=Timestamp(nanos=-1))
    )
    for name in ("ann", "ben"):
        created = (await auth.login(name, "guitar hero")).user.create_time.ToDatetime(UTC)
        assert abs(datetime.now(UTC) - created) < timedelta(hours=1)


async def test_email_addresses_are_imported_and_invalid_ones_reported(auth: RunningAuth) -> None:
    bert, carl = await imported(auth, user("bert", email="bert@example.org"), user("carl", email="none at all"))
    assert (bert.outcome, bert.note) == (pb.IMPORT_OUTCOME_ADDED, "")
    assert (carl.outcome, carl.note) == (pb.IMPORT_OUTCOME_ADDED, "the e-mail address is invalid and left out")
    emails = [(await auth.login(name, "guitar hero")).user.email for name in ("bert", "carl")]
    assert emails == ["bert@example.org", ""]
