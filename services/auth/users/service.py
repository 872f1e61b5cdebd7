"""Users, for admins (user.proto)."""

import base64
import binascii
import secrets
from datetime import timedelta
from typing import Any

from services.auth.passwords.hashing import PasswordHasher
from services.auth.times import now
from services.auth.users.messages import user_message
from services.auth.users.names import checked_email, checked_username
from services.auth.users.repository import UserRepository
from services.common.errors import InvalidInputError
from services.common.limits import DEFAULT_USERS_PAGE, MAX_USERS_PAGE
from services.common.observe import audit
from services.common.rpc.auth import require_admin
from stemtube.auth.v1 import user_pb2 as pb
from stemtube.auth.v1 import user_pb2_grpc


class UserService(user_pb2_grpc.UserServiceServicer):
    """The servicer; the contract says what each RPC does and how it can end.

    Args:
        users: all users.
        hasher: hashes passwords.
        one_time_password_lifetime: how long a one-time password is valid.
    """

    def __init__(self, users: UserRepository, hasher: PasswordHasher, one_time_password_lifetime: timedelta) -> None:
        self._users = users
        self._hasher = hasher
        self._one_time_password_lifetime = one_time_password_lifetime

    async def ListUsers(self, request: pb.ListUsersRequest, _context: Any) -> pb.ListUsersResponse:
        require_admin()
        if request.page_size < 0:
            raise InvalidInputError("page_size must not be negative.", "BAD_REQUEST")
        size = min(request.page_size or DEFAULT_USERS_PAGE, MAX_USERS_PAGE)
        found = await self._users.page(_read_page_token(request.page_token), size + 1)
        response = pb.ListUsersResponse(users=[user_message(user) for user in found[:size]])
        if len(found) > size:
            response.next_page_token = base64.urlsafe_b64encode(found[size - 1].folded_username.encode()).decode()
        return response

    async def CreateUser(self, request: pb.CreateUserRequest, _context: Any) -> pb.CreateUserResponse:
        me = require_admin()
        username, email = checked_username(request.username), checked_email(request.email)
        password = _one_time_password()
        user = await self._users.create(
            username,
            await self._hasher.hash(password),
            email=email,
            admin=request.admin,
            must_change_password=True,
            password_expire_time=now() + self._one_time_password_lifetime,
            by=me,
        )
        audit.record("user created", user=user.id, admin=user.admin)
        return pb.CreateUserResponse(user=user_message(user), one_time_password=password)

    async def UpdateUser(self, request: pb.UpdateUserRequest, _context: Any) -> pb.UpdateUserResponse:
        me = require_admin()
        changes: dict[str, Any] = {}
        if request.HasField("email"):
            changes["email"] = checked_email(request.email)
        if request.HasField("admin"):
            changes["admin"] = request.admin
        if request.HasField("disabled"):
            changes["disabled"] = request.disabled
        user = await self._users.change(request.user_id, changes, by=me)
        rights = {name: value for name, value in changes.items() if name != "email"}
        audit.record("user changed", user=user.id, changed=sorted(changes), **rights)
        return pb.UpdateUserResponse(user=user_message(user))

    async def ResetPassword(self, request: pb.ResetPasswordRequest, _context: Any) -> pb.ResetPasswordResponse:
        me = require_admin()
        password = _one_time_password()
        expires = now() + self._one_time_password_lifetime
        password_hash = await self._hasher.hash(password)
        user = await self._users.give_one_time_password(request.user_id, password_hash, expires, by=me)
        audit.record("password reset", user=user.id)
        return pb.ResetPasswordResponse(one_time_password=password)


def _one_time_password() -> str:
    return secrets.token_urlsafe(12)


def _read_page_token(token: str) -> str:
    try:
        text = base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        text = "\0"
    if "\0" in text:
        raise InvalidInputError("page_token is not from an earlier call of this list.", "BAD_PAGE_TOKEN")
    return text
