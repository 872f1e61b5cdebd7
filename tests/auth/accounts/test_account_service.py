"""Users change their own account."""

from services.common.errors import Code
from tests.auth.calling import PASSWORD, Caller, new_user, refusal
from tests.auth.running import RunningAuth


async def test_changing_a_password_requires_the_old_one(auth: RunningAuth, admin: Caller) -> None:
    _, ben = await new_user(admin)
    other = await auth.login("ben", PASSWORD)
    for old, new, answer in (
        ("wrong password", "something new", (Code.UNAUTHENTICATED, "BAD_CREDENTIALS")),
        (PASSWORD, "short", (Code.INVALID_ARGUMENT, "BAD_PASSWORD")),
        (PASSWORD, "x" * 1025, (Code.INVALID_ARGUMENT, "BAD_PASSWORD")),
    ):
        assert await refusal(ben("ChangePassword", old_password=old, new_password=new)) == answer
    long = "ä" * 1024
    changed = await ben("ChangePassword", old_password=PASSWORD, new_password=long)
    await auth.login("ben", long)
    await auth.refresh(changed.session.refresh_token)
    assert await refusal(auth.refresh(other.refresh_token)) == (Code.UNAUTHENTICATED, "BAD_REFRESH_TOKEN")


async def test_a_password_is_not_the_users_name(admin: Caller) -> None:
    made = await admin("CreateUser", username="somebody")
    first = Caller(admin.auth, await admin.auth.login("somebody", made.one_time_password))
    change = first("ChangePassword", old_password=made.one_time_password, new_password="SomeBody")
    assert await refusal(change) == (Code.INVALID_ARGUMENT, "BAD_PASSWORD")
