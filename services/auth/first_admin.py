"""The first user, without whom nobody could sign in."""

import secrets

import structlog

from services.auth.config import AuthSettings
from services.auth.passwords import PasswordHasher
from services.auth.store import Store
from services.common.config import write_private

log = structlog.get_logger(__name__)


async def ensure_admin(settings: AuthSettings, store: Store, hasher: PasswordHasher) -> None:
    """Creates the admin at the very first start, when there is no user yet.

    The password is the setting's, or a random one that is left in DATA_DIR/secrets/admin-password, for its owner only.
    The random one is good for nothing but to choose another.

    Raises:
        OSError: the file cannot be written; there is no admin then, and the next start tries again.
    """
    if await store.has_users():
        return
    given = settings.admin_password.get_secret_value()
    password = given or secrets.token_urlsafe(12)
    file = settings.data_dir.absolute() / "secrets" / "admin-password"

    def keep_password() -> None:
        if not given:
            write_private(file, password + "\n")

    username = settings.auth.admin_username
    password_hash = await hasher.hash(password)
    if await store.create_first_admin(username, password_hash, keep_password, one_time=not given):
        where = "password is that of STEMTUBE_ADMIN_PASSWORD" if given else f"password is in {file}"
        log.warning(f"created the user {username}, whose {where}")
