"""The RPCs of auth."""

import hmac
from datetime import timedelta
from typing import Any

import grpc.aio
import structlog
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from services.auth.importing import UserImporter
from services.auth.passwords import PasswordHasher
from services.auth.store import Store, User
from services.auth.tokens import TokenIssuer
from services.common.auth import Identity, require_admin, require_user
from services.common.errors import InvalidInputError, NotFoundError, UnauthenticatedError
from stemtube.auth.v1 import auth_pb2, auth_pb2_grpc, import_pb2

log = structlog.get_logger(__name__)

NAME = auth_pb2.DESCRIPTOR.services_by_name["AuthService"].full_name
PUBLIC = tuple(f"/{NAME}/{method}" for method in ("Login", "Refresh", "Logout", "IssueServiceToken", "ListSigningKeys"))
SERVICES = ("gateway", "download", "separation", "analysis")

Context = grpc.aio.ServicerContext[Any, Any]


class AuthServicer(auth_pb2_grpc.AuthServiceServicer):
    """Signs users and services in.

    Args:
        store: users, sessions and keys.
        hasher: checks passwords.
        issuer: signs access tokens.
        service_secret: what the services of this suite prove themselves with.
        importer: takes over users of another installation.
    """

    def __init__(
        self,
        store: Store,
        hasher: PasswordHasher,
        issuer: TokenIssuer,
        service_secret: str,
        importer: UserImporter,
    ) -> None:
        self._store = store
        self._hasher = hasher
        self._issuer = issuer
        self._service_secret = service_secret.encode()
        self._importer = importer

    async def Login(self, request: auth_pb2.LoginRequest, context: Context) -> auth_pb2.LoginResponse:
        """Signs a user in."""
        user = await self._store.user_named(request.username)
        known_hash = user.password_hash if user else None
        if not await self._hasher.matches(request.password, known_hash) or user is None:
            raise UnauthenticatedError("Unknown user or wrong password.", "BAD_CREDENTIALS")
        if self._hasher.is_outdated(user.password_hash):
            await self._store.set_password_hash(user.id, await self._hasher.hash(request.password))
        session_id, refresh_token = await self._store.open_session(user.id)
        log.info("signed in", user=user.id, session=session_id)
        return auth_pb2.LoginResponse(session=self._session(user, session_id, refresh_token))

    async def Refresh(self, request: auth_pb2.RefreshRequest, context: Context) -> auth_pb2.RefreshResponse:
        """Exchanges a refresh token for new tokens."""
        user, session_id, refresh_token = await self._store.refresh(request.refresh_token)
        return auth_pb2.RefreshResponse(session=self._session(user, session_id, refresh_token))

    async def Logout(self, request: auth_pb2.LogoutRequest, context: Context) -> auth_pb2.LogoutResponse:
        """Ends the session of a refresh token."""
        await self._store.end_session(request.refresh_token)
        return auth_pb2.LogoutResponse()

    async def GetMe(self, request: auth_pb2.GetMeRequest, context: Context) -> auth_pb2.GetMeResponse:
        """The caller."""
        user = await self._store.user(require_user().subject)
        if user is None:
            raise NotFoundError("This account no longer exists.", "NO_SUCH_USER")
        return auth_pb2.GetMeResponse(user=_user(user))

    async def IssueServiceToken(
        self, request: auth_pb2.IssueServiceTokenRequest, context: Context
    ) -> auth_pb2.IssueServiceTokenResponse:
        """A token for one service of this suite."""
        if not hmac.compare_digest(request.secret.encode(), self._service_secret):
            raise UnauthenticatedError("This is not the secret of this suite's services.", "BAD_CREDENTIALS")
        if request.service not in SERVICES:
            raise InvalidInputError(f"There is no such service; there are {', '.join(SERVICES)}.", "UNKNOWN_SERVICE")
        identity = Identity(subject=request.service, name=request.service, kind="service")
        return auth_pb2.IssueServiceTokenResponse(
            access_token=self._issuer.issue(identity), expires_in=_duration(self._issuer.lifetime)
        )

    async def ListSigningKeys(
        self, request: auth_pb2.ListSigningKeysRequest, context: Context
    ) -> auth_pb2.ListSigningKeysResponse:
        """The public keys that access tokens are signed with."""
        return auth_pb2.ListSigningKeysResponse(
            keys=[
                auth_pb2.SigningKey(key_id=key.key_id, public_key=key.public_key.public_bytes_raw())
                for key in await self._store.signing_keys()
            ]
        )

    async def ImportUsers(
        self, request: import_pb2.ImportUsersRequest, context: Context
    ) -> import_pb2.ImportUsersResponse:
        """Takes over users of another installation."""
        admin = require_admin()
        users = await self._importer.add(request)
        log.info("users imported", admin=admin.subject, dry_run=request.dry_run, asked=len(users))
        return import_pb2.ImportUsersResponse(users=users)

    def _session(self, user: User, session_id: str, refresh_token: str) -> auth_pb2.Session:
        identity = Identity(subject=user.id, name=user.username, kind="user", admin=user.admin, session_id=session_id)
        return auth_pb2.Session(
            access_token=self._issuer.issue(identity),
            expires_in=_duration(self._issuer.lifetime),
            refresh_token=refresh_token,
            refresh_expires_in=_duration(self._store.refresh_lifetime),
            user=_user(user),
        )


def _user(user: User) -> auth_pb2.User:
    created = Timestamp()
    created.FromDatetime(user.create_time)
    return auth_pb2.User(id=user.id, username=user.username, admin=user.admin, create_time=created)


def _duration(delta: timedelta) -> Duration:
    duration = Duration()
    duration.FromTimedelta(delta)
    return duration
