"""Lets people register, as far as the settings allow it."""

from typing import Literal

from services.auth.passwords.hashing import PasswordHasher
from services.auth.passwords.rules import checked_password
from services.auth.sessions.throttle import Throttle, registration
from services.auth.tables import User
from services.auth.users.names import checked_email, checked_username
from services.auth.users.repository import UserRepository
from services.common.errors import PermissionDeniedError
from services.common.observe import audit
from services.common.rpc.peers import present_client


class Registration:
    """Creates accounts for people who register.

    Args:
        policy: who can register: nobody, people with an invitation, or everybody.
        users: all users.
        hasher: hashes passwords.
        throttle: limits attempts.
    """

    def __init__(
        self,
        policy: Literal["closed", "invitation", "open"],
        users: UserRepository,
        hasher: PasswordHasher,
        throttle: Throttle,
    ) -> None:
        self.policy = policy
        self._users = users
        self._hasher = hasher
        self._throttle = throttle

    async def register(self, username: str, password: str, *, email: str, invitation: str) -> User:
        """Creates an account.

        Args:
            username: as the user writes it.
            password: that the user chose.
            email: can be empty.
            invitation: code of an invitation; ignored unless the policy needs one.

        Raises:
            PermissionDeniedError: closed (reason REGISTRATION_CLOSED), or no valid invitation (reason BAD_INVITATION).
            LimitExceededError: too many attempts (reason TOO_MANY_ATTEMPTS), or too many passwords wait to be hashed
                (reason TOO_MANY_WAITING).
            InvalidInputError: name, e-mail or password cannot be used (reasons BAD_USERNAME, BAD_EMAIL, BAD_PASSWORD).
            AlreadyExistsError: the name is taken (reason USERNAME_TAKEN).
        """
        if self.policy == "closed":
            raise PermissionDeniedError("Only administrators create accounts here.", "REGISTRATION_CLOSED")
        if network := present_client().network:
            await self._throttle.begin(registration(network))
        username, email = checked_username(username), checked_email(email)
        password_hash = await self._hasher.hash(checked_password(password, username))
        needed = invitation if self.policy == "invitation" else None
        user = await self._users.create(username, password_hash, email=email, invitation=needed)
        audit.record("registered", user=user.id)
        return user
