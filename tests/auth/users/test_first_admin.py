"""The first user."""

from pathlib import Path

import pytest

from services.common.errors import Code
from tests.auth.calling import PASSWORD, Caller, refusal
from tests.auth.running import auth_settings, running_auth


async def test_the_first_admins_random_password_must_be_changed_and_has_no_rights(tmp_path: Path) -> None:
    async with running_auth(auth_settings(tmp_path, "")) as auth:
        password = (tmp_path / "secrets" / "admin-password").read_text().strip()
        admin = Caller(auth, await auth.login(password=password))
        assert await refusal(admin("CreateUser", username="ben")) == (
            Code.PERMISSION_DENIED,
            "PASSWORD_CHANGE_REQUIRED",
        )
        changed = await admin("ChangePassword", old_password=password, new_password=PASSWORD)
        await Caller(auth, changed.session)("CreateUser", username="ben")


async def test_without_a_given_password_a_random_one_is_saved_in_a_private_file(tmp_path: Path) -> None:
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


async def test_no_admin_is_created_if_the_password_cannot_be_saved(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "admin-password").mkdir()
    with pytest.raises(OSError, match="admin-password"):
        async with running_auth(auth_settings(tmp_path, "")):
            pass
    (tmp_path / "secrets" / "admin-password").rmdir()
    async with running_auth(auth_settings(tmp_path, "")) as auth:
        await auth.login(password=(tmp_path / "secrets" / "admin-password").read_text().strip())
