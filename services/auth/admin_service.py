"""The RPCs of admins: accounts, invitations, signing keys."""

import base64
import binascii
import secrets
from datetime import timedelta
from typing import Any

from services.auth.importing import UserImporter
from services.auth.invitations import Invitations
from services.auth.keys import KeyRing
from services.auth.messages import invitation_message, lifetime, user_message
from services.auth.names import checked_email, checked_username
from services.auth.passwords import PasswordHasher
from services.auth.secret import now
from services.auth.store import Store
from services.common.errors import InvalidInputError
from services.common.limits import DEFAULT_INVITATION_DAYS, DEFAULT_INVITATION_USES, DEFAULT_USERS_PAGE, MAX_USERS_PAGE
from services.common.observe import audit
from services.common.rpc.auth import require_admin
from stemtube.auth.v1 import accounts_pb2, auth_pb2, import_pb2

INVITATION_LIFETIME = timedelta(days=DEFAULT_INVITATION_DAYS)


class AdminRpcs:
    """Part of the servicer."""

    _store: Store
    _invitations: Invitations
    _keys: KeyRing
    _hasher: PasswordHasher
    _importer: UserImporter
    _one_time_password_lifetime: timedelta

    async def ListUsers(self, request: auth_pb2.ListUsersRequest, _context: Any) -> auth_pb2.ListUsersResponse:
        require_admin()
        if request.page_size < 0:
            raise InvalidInputError("page_size must not be negative.", "BAD_REQUEST")
        size = min(request.page_size or DEFAULT_USERS_PAGE, MAX_USERS_PAGE)
        found = await self._store.page(_read_page_token(request.page_token), size + 1)
        response = auth_pb2.ListUsersResponse(users=[user_message(user) for user in found[:size]])
        if len(found) > size:
            response.next_page_token = base64.urlsafe_b64encode(found[size - 1].folded_username.encode()).decode()
        return response

    async def ImportUsers(
        self, request: import_pb2.ImportUsersRequest, _context: Any
    ) -> import_pb2.ImportUsersResponse:
        me = require_admin()
        users = await self._importer.add(request, by=me)
        audit.record("users imported", dry_run=request.dry_run, asked=len(users))
        return import_pb2.ImportUsersResponse(users=users)

    async def CreateUser(self, request: auth_pb2.CreateUserRequest, _context: Any) -> auth_pb2.CreateUserResponse:
        me = require_admin()
        username, email = checked_username(request.username), checked_email(request.email)
        password = _one_time_password()
        user = await self._store.create(
            username,
            await self._hasher.hash(password),
            email=email,
            admin=request.admin,
            must_change_password=True,
            password_expire_time=now() + self._one_time_password_lifetime,
            by=me,
        )
        audit.record("user created", user=user.id, admin=user.admin)
        return auth_pb2.CreateUserResponse(user=user_message(user), one_time_password=password)

    async def UpdateUser(self, request: auth_pb2.UpdateUserRequest, _context: Any) -> auth_pb2.UpdateUserResponse:
        me = require_admin()
        changes: dict[str, Any] = {}
        if request.HasField("email"):
            changes["email"] = checked_email(request.email)
        if request.HasField("admin"):
            changes["admin"] = request.admin
        if request.HasField("disabled"):
            changes["disabled"] = request.disabled
        user = await self._store.change(request.user_id, changes, by=me)
        rights = {name: value for name, value in changes.items() if name != "email"}
        audit.record("user changed", user=user.id, changed=sorted(changes), **rights)
        return auth_pb2.UpdateUserResponse(user=user_message(user))

    async def ResetPassword(
        self, request: auth_pb2.ResetPasswordRequest, _context: Any
    ) -> auth_pb2.ResetPasswordResponse:
        me = require_admin()
        password = _one_time_password()
        expires = now() + self._one_time_password_lifetime
        password_hash = await self._hasher.hash(password)
        user = await self._store.give_one_time_password(request.user_id, password_hash, expires, by=me)
        audit.record("password reset", user=user.id)
        return auth_pb2.ResetPasswordResponse(one_time_password=password)

    async def CreateInvitation(
        self, request: accounts_pb2.CreateInvitationRequest, _context: Any
    ) -> accounts_pb2.CreateInvitationResponse:
        me = require_admin()
        life = lifetime(request.lifetime, INVITATION_LIFETIME, "BAD_INVITATION")
        invitation, code = await self._invitations.create(request.uses or DEFAULT_INVITATION_USES, life, by=me)
        audit.record("invitation created", invitation=invitation.id, uses=invitation.uses_left)
        return accounts_pb2.CreateInvitationResponse(invitation=invitation_message(invitation), code=code)

    async def ListInvitations(
        self, _request: accounts_pb2.ListInvitationsRequest, _context: Any
    ) -> accounts_pb2.ListInvitationsResponse:
        require_admin()
        found = await self._invitations.all()
        return accounts_pb2.ListInvitationsResponse(invitations=[invitation_message(one) for one in found])

    async def DeleteInvitation(
        self, request: accounts_pb2.DeleteInvitationRequest, _context: Any
    ) -> accounts_pb2.DeleteInvitationResponse:
        require_admin()
        await self._invitations.delete(request.invitation_id)
        audit.record("invitation deleted", invitation=request.invitation_id)
        return accounts_pb2.DeleteInvitationResponse()

    async def RotateSigningKey(
        self, request: auth_pb2.RotateSigningKeyRequest, _context: Any
    ) -> auth_pb2.RotateSigningKeyResponse:
        me = require_admin()
        key_id = await self._keys.rotate(by=me, withdraw_older=request.withdraw_older)
        audit.record("signing key rotated", key=key_id, withdrew_older=request.withdraw_older)
        return auth_pb2.RotateSigningKeyResponse(key_id=key_id)


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
