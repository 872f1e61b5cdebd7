"""The audit log names actions, and contains no secrets."""

from structlog.testing import capture_logs

from tests.auth.calling import PASSWORD, Caller, new_user, refusal
from tests.auth.running import RunningAuth


async def test_actions_of_admins_and_users_are_in_the_audit_log_without_secrets(
    auth: RunningAuth, admin: Caller
) -> None:
    with capture_logs() as lines:
        user, ben = await new_user(admin)
        made = await ben("CreateApiToken", name="backup", scopes=["read"])
        reset = await admin("ResetPassword", user_id=user.id)
        await refusal(auth.login("ben", "not the password"))
        await admin("UpdateUser", user_id=user.id, disabled=True)
    actions = [line["event"] for line in lines if line.get("audit")]
    assert actions == [
        "user created",
        "signed in",
        "password changed",
        "signed in",
        "API token created",
        "password reset",
        "sign-in refused",
        "user changed",
    ]
    for secret in (made.secret, reset.one_time_password, PASSWORD, "not the password", ben.token):
        assert secret not in str(lines)
