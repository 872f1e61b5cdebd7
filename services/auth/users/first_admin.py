"""Creates the first user, so that somebody can sign in."""

import secrets

import structlog

from services.auth.config import AuthSettings
from services.auth.passwords.hashing import PasswordHasher
from services.auth.users.repository import UserRepository
from services.common.config import write_private

log = structlog.get_logger(__name__)


async def ensure_admin(settings: AuthSettings, users: UserRepository, hasher: PasswordHasher) -> None:
    """Creates an admin if there is no user yet.

    The password comes from the settings. If they have none, it is a random one-time password, which is written to
    DATA_DIR/secrets/admin-password, readable for its owner only.

    Raises:
        OSError: the file cannot be written. No admin is created, and the next start tries again.
    """
    if await users.has_users():
        return
    given = settings.admin_password.get_secret_value()
    password = given or secrets.token_urlsafe(12)
    file = settings.data_dir.absolute() / "secrets" / "admin-password"

    def keep_password() -> None:
        if not given:
            write_private(file, password + "\n")

    username = settings.auth.admin_username
    password_hash = await hasher.hash(password)
    if await users.create_first_admin(username, password_hash, keep_password, one_time=not given):
        source = "the one in STEMTUBE_ADMIN_PASSWORD" if given else f"in {file}"
        log.warning(f"created the first user, {username}, an administrator; the password is {source}")
