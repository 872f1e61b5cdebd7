"""Puts the auth service together from its settings."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import grpc.aio
import structlog

from services.auth.access_tokens.issuer import TokenIssuer
from services.auth.access_tokens.keys import KeyRing
from services.auth.access_tokens.service import AccessTokenService
from services.auth.accounts.registration import Registration
from services.auth.accounts.service import AccountService
from services.auth.api_tokens.api_tokens import ApiTokens
from services.auth.api_tokens.service import ApiTokenService
from services.auth.config import AuthSettings
from services.auth.invitations.invitations import Invitations
from services.auth.invitations.service import InvitationService
from services.auth.passwords.hashing import PasswordHasher
from services.auth.rpcs import NAMES, PUBLIC, SCOPES
from services.auth.sessions.service import SessionService
from services.auth.sessions.sessions import Sessions
from services.auth.sessions.signing_in import SigningIn
from services.auth.sessions.throttle import Throttle
from services.auth.users.first_admin import ensure_admin
from services.auth.users.import_service import UserImportService
from services.auth.users.importing import UserImporter
from services.auth.users.repository import UserRepository
from services.auth.users.service import UserService
from services.common.errors import DataLossError, UnavailableError
from services.common.rpc.auth import TokenVerifier
from services.common.rpc.operations_service import with_operations
from services.common.rpc.server import Service
from services.common.storage.database import Database, migrate
from stemtube.auth.v1.access_token_pb2_grpc import add_AccessTokenServiceServicer_to_server
from stemtube.auth.v1.account_pb2_grpc import add_AccountServiceServicer_to_server
from stemtube.auth.v1.api_token_pb2_grpc import add_ApiTokenServiceServicer_to_server
from stemtube.auth.v1.import_pb2_grpc import add_UserImportServiceServicer_to_server
from stemtube.auth.v1.invitation_pb2_grpc import add_InvitationServiceServicer_to_server
from stemtube.auth.v1.session_pb2_grpc import add_SessionServiceServicer_to_server
from stemtube.auth.v1.user_pb2_grpc import add_UserServiceServicer_to_server

log = structlog.get_logger(__name__)

MAINTENANCE_SECONDS = 3600.0
# Auth reads keys and ended sessions from its own database, so it can read them often.
REFRESH_SECONDS = 1.0

Task = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class _Parts:
    """The objects that the servicers share."""

    users: UserRepository
    sessions: Sessions
    api_tokens: ApiTokens
    invitations: Invitations
    keys: KeyRing
    throttle: Throttle
    hasher: PasswordHasher
    importer: UserImporter

    @classmethod
    def on(cls, database: Database, hasher: PasswordHasher, settings: AuthSettings) -> "_Parts":
        section = settings.auth
        return cls(
            UserRepository(database),
            Sessions(database, section.refresh_token_lifetime, section.access_token_lifetime),
            ApiTokens(database, section.fresh_sign_in),
            Invitations(database),
            KeyRing(database, section.access_token_lifetime, section.signing_key_lifetime),
            Throttle(database),
            hasher,
            UserImporter(database, hasher),
        )

    def register(self, server: grpc.aio.Server, settings: AuthSettings, service_secret: str) -> None:
        """Adds all servicers to a server."""
        section = settings.auth
        issuer = TokenIssuer(self.keys.signing_key, section.access_token_lifetime)
        signing_in = SigningIn(self.users, self.sessions, self.hasher, self.throttle, issuer)
        registration = Registration(section.registration, self.users, self.hasher, self.throttle)
        add_SessionServiceServicer_to_server(SessionService(self.sessions, signing_in), server)
        add_AccountServiceServicer_to_server(AccountService(registration, self.users, signing_in), server)
        add_ApiTokenServiceServicer_to_server(ApiTokenService(self.api_tokens, self.users, signing_in, issuer), server)
        add_AccessTokenServiceServicer_to_server(AccessTokenService(self.keys, issuer, service_secret), server)
        add_UserServiceServicer_to_server(
            UserService(self.users, self.hasher, section.one_time_password_lifetime), server
        )
        add_InvitationServiceServicer_to_server(InvitationService(self.invitations), server)
        add_UserImportServiceServicer_to_server(UserImportService(self.importer), server)

    @property
    def maintenance(self) -> dict[str, Task]:
        """Tasks that run every hour, by their names in the log."""
        return {
            "delete old sessions": self.sessions.purge,
            "delete old API tokens": self.api_tokens.purge,
            "delete old invitations": self.invitations.purge,
            "delete old sign-in attempts": self.throttle.purge,
            "rotate signing keys": self.keys.maintain,
        }


@contextlib.asynccontextmanager
async def open_auth(settings: AuthSettings) -> AsyncIterator[tuple[Service, TokenVerifier]]:
    """The service, ready to be served, and the verifier of its callers, which reads from the service's own database.

    Raises:
        UnavailableError: the database does not answer.
        PreconditionError: a newer StemTube made the database.
        OSError: the data directory cannot be written.
    """
    service_secret = await asyncio.to_thread(settings.shared_service_secret)
    await migrate(settings.database_url, "services.auth")
    hashing = contextlib.closing(PasswordHasher(settings.auth.bcrypt_cost, settings.auth.hashing_threads))
    async with Database(settings.database_url) as database:
        with hashing as hasher:
            parts = _Parts.on(database, hasher, settings)
            await ensure_admin(settings, parts.users, hasher)
            name, *others = NAMES
            service = Service(
                name,
                lambda server: parts.register(server, settings, service_secret),
                PUBLIC,
                SCOPES,
                tuple(others),
            )
            verifier = TokenVerifier(
                parts.keys.public_keys,
                parts.sessions.ended,
                refresh_seconds=REFRESH_SECONDS,
                retry_seconds=REFRESH_SECONDS,
            )
            maintaining = asyncio.create_task(_maintain_forever(parts.maintenance))
            try:
                yield with_operations(service), verifier
            finally:
                maintaining.cancel()
                await asyncio.wait({maintaining})


async def _maintain_forever(tasks: dict[str, Task]) -> None:
    while True:
        for name, task in tasks.items():
            try:
                await task()
            except (UnavailableError, DataLossError) as error:
                log.warning(
                    "maintenance failed; it is tried again in an hour",
                    task=name,
                    reason=error.reason,
                    detail=error.message,
                )
            # A bug in one task must not stop the others.
            except Exception:
                log.exception("maintenance failed; it is tried again in an hour", task=name)
        await asyncio.sleep(MAINTENANCE_SECONDS)
