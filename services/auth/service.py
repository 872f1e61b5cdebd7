"""The RPCs of auth."""

import hmac
from typing import Any

import grpc.aio

from services.auth.account_service import AccountRpcs
from services.auth.admin_service import AdminRpcs
from services.auth.api_tokens import ApiTokens
from services.auth.config import AuthSection
from services.auth.importing import UserImporter
from services.auth.invitations import Invitations
from services.auth.keys import KeyRing
from services.auth.messages import duration
from services.auth.names import checked_email, checked_username
from services.auth.passwords import PasswordHasher, checked_password
from services.auth.sessions import Sessions
from services.auth.signing_in import SigningIn, user_identity
from services.auth.store import Store
from services.auth.throttle import Throttle, registration
from services.auth.tokens import TokenIssuer
from services.common.errors import InvalidInputError, PermissionDeniedError, UnauthenticatedError
from services.common.observe import audit
from services.common.rpc.auth import CHANGE_PASSWORD, READ, Identity, require_service
from services.common.rpc.peers import present_client
from services.common.rpc.tls import peer_name
from stemtube.auth.v1 import auth_pb2, auth_pb2_grpc

NAME = auth_pb2.DESCRIPTOR.services_by_name["AuthService"].full_name
PUBLIC = tuple(
    f"/{NAME}/{method}"
    for method in (
        "Login",
        "Refresh",
        "Logout",
        "Register",
        "GetRegistration",
        "ExchangeApiToken",
        "IssueServiceToken",
        "ListSigningKeys",
    )
)
# What opens further doors takes a session: no token with scopes is good for it.
SCOPES = {
    f"/{NAME}/GetMe": frozenset({READ, CHANGE_PASSWORD}),
    f"/{NAME}/ChangePassword": frozenset({CHANGE_PASSWORD}),
    **{
        f"/{NAME}/{method}": frozenset[str]()
        for method in (
            "ListSessions",
            "EndSession",
            "EndOtherSessions",
            "CreateApiToken",
            "ListApiTokens",
            "DeleteApiToken",
        )
    },
}
SERVICES = ("gateway", "download", "separation", "analysis")

Context = grpc.aio.ServicerContext[Any, Any]


class AuthServicer(AccountRpcs, AdminRpcs, auth_pb2_grpc.AuthServiceServicer):
    """Signs users and services in, and lets them and admins manage accounts.

    Args:
        settings: of the service.
        store: accounts.
        sessions: their sessions.
        api_tokens: their scripts' tokens.
        invitations: what people register with.
        keys: sign access tokens.
        throttle: slows guessing down.
        hasher: checks passwords.
        service_secret: what the services of this suite prove themselves with.
        importer: takes over users of another installation.
    """

    def __init__(
        self,
        settings: AuthSection,
        store: Store,
        sessions: Sessions,
        api_tokens: ApiTokens,
        invitations: Invitations,
        keys: KeyRing,
        throttle: Throttle,
        hasher: PasswordHasher,
        service_secret: str,
        importer: UserImporter,
    ) -> None:
        self._registration = settings.registration
        self._one_time_password_lifetime = settings.one_time_password_lifetime
        self._store = store
        self._sessions = sessions
        self._api_tokens = api_tokens
        self._invitations = invitations
        self._keys = keys
        self._throttle = throttle
        self._hasher = hasher
        self._service_secret = service_secret.encode()
        self._importer = importer
        self._issuer = TokenIssuer(keys.signing_key, settings.access_token_lifetime)
        self._signing_in = SigningIn(store, sessions, hasher, throttle, self._issuer)

    async def Login(self, request: auth_pb2.LoginRequest, _context: Context) -> auth_pb2.LoginResponse:
        return auth_pb2.LoginResponse(session=await self._signing_in.sign_in(request.username, request.password))

    async def Refresh(self, request: auth_pb2.RefreshRequest, _context: Context) -> auth_pb2.RefreshResponse:
        return auth_pb2.RefreshResponse(session=await self._signing_in.go_on(request.refresh_token))

    async def Logout(self, request: auth_pb2.LogoutRequest, _context: Context) -> auth_pb2.LogoutResponse:
        await self._sessions.sign_out(request.refresh_token)
        return auth_pb2.LogoutResponse()

    async def Register(self, request: auth_pb2.RegisterRequest, _context: Context) -> auth_pb2.RegisterResponse:
        if self._registration == "closed":
            raise PermissionDeniedError("Administrators make the accounts here.", "REGISTRATION_CLOSED")
        if network := present_client().network:
            await self._throttle.begin(registration(network))
        username, email = checked_username(request.username), checked_email(request.email)
        password_hash = await self._hasher.hash(checked_password(request.password, username))
        needed = request.invitation if self._registration == "invitation" else None
        user = await self._store.create(username, password_hash, email=email, invitation=needed)
        audit.record("registered", user=user.id)
        return auth_pb2.RegisterResponse(session=await self._signing_in.begin(user))

    async def GetRegistration(
        self, _request: auth_pb2.GetRegistrationRequest, _context: Context
    ) -> auth_pb2.GetRegistrationResponse:
        return auth_pb2.GetRegistrationResponse(
            open=self._registration == "open", by_invitation=self._registration == "invitation"
        )

    async def ExchangeApiToken(
        self, request: auth_pb2.ExchangeApiTokenRequest, _context: Context
    ) -> auth_pb2.ExchangeApiTokenResponse:
        user, token = await self._api_tokens.use(request.api_token)
        identity = user_identity(user, token.id, frozenset(token.scopes.split()))
        return auth_pb2.ExchangeApiTokenResponse(
            access_token=await self._issuer.issue(identity), expires_in=duration(self._issuer.lifetime)
        )

    async def IssueServiceToken(
        self, request: auth_pb2.IssueServiceTokenRequest, context: Context
    ) -> auth_pb2.IssueServiceTokenResponse:
        if not hmac.compare_digest(request.secret.encode(), self._service_secret):
            audit.record("service refused", service=request.service[:64])
            raise UnauthenticatedError("This is not the secret of this suite's services.", "BAD_CREDENTIALS")
        if request.service not in SERVICES:
            raise InvalidInputError(f"There is no such service; there are {', '.join(SERVICES)}.", "UNKNOWN_SERVICE")
        if peer_name(context) not in (None, request.service):
            audit.record("service refused", service=request.service, certificate=peer_name(context))
            raise UnauthenticatedError("The certificate is another service's.", "BAD_CREDENTIALS")
        identity = Identity(subject=request.service, name=request.service, kind="service")
        return auth_pb2.IssueServiceTokenResponse(
            access_token=await self._issuer.issue(identity), expires_in=duration(self._issuer.lifetime)
        )

    async def ListSigningKeys(
        self, _request: auth_pb2.ListSigningKeysRequest, _context: Context
    ) -> auth_pb2.ListSigningKeysResponse:
        return auth_pb2.ListSigningKeysResponse(
            keys=[
                auth_pb2.SigningKey(key_id=key_id, public_key=key.public_bytes_raw())
                for key_id, key in (await self._keys.public_keys()).items()
            ]
        )

    async def ListEndedSessions(
        self, _request: auth_pb2.ListEndedSessionsRequest, _context: Context
    ) -> auth_pb2.ListEndedSessionsResponse:
        require_service()
        return auth_pb2.ListEndedSessionsResponse(session_ids=await self._sessions.ended())
