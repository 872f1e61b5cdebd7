"""The auth service, put together from its settings."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import structlog

from services.auth.api_tokens import ApiTokens
from services.auth.config import AuthSettings
from services.auth.first_admin import ensure_admin
from services.auth.importing import UserImporter
from services.auth.invitations import Invitations
from services.auth.keys import KeyRing
from services.auth.passwords import PasswordHasher
from services.auth.service import NAME, PUBLIC, SCOPES, AuthServicer
from services.auth.sessions import Sessions
from services.auth.store import Store
from services.auth.throttle import Throttle
from services.common.errors import DataLossError, UnavailableError
from services.common.rpc.auth import TokenVerifier
from services.common.rpc.operations_service import with_operations
from services.common.rpc.server import Service
from services.common.storage.database import Database, migrate
from stemtube.auth.v1 import auth_pb2_grpc

log = structlog.get_logger(__name__)

CHORE_SECONDS = 3600.0
# Auth itself need not wait for others to tell it what has ended.
REFRESH_SECONDS = 1.0


@contextlib.asynccontextmanager
async def open_auth(settings: AuthSettings) -> AsyncIterator[tuple[Service, TokenVerifier]]:
    """The service, ready to be served, and the verifier of its callers, which asks its own database.

    Raises:
        UnavailableError: the database does not answer.
        PreconditionError: a newer StemTube made the database.
        OSError: the data directory cannot be written.
    """
    service_secret = await asyncio.to_thread(settings.shared_service_secret)
    await migrate(settings.database_url, "services.auth")
    section = settings.auth
    hashing = contextlib.closing(PasswordHasher(section.bcrypt_cost, section.hashing_threads))
    async with Database(settings.database_url) as database:
        with hashing as hasher:
            store = Store(database)
            sessions = Sessions(database, section.refresh_token_lifetime, section.access_token_lifetime)
            api_tokens = ApiTokens(database, section.fresh_sign_in)
            invitations, throttle = Invitations(database), Throttle(database)
            keys = KeyRing(database, section.access_token_lifetime, section.signing_key_lifetime)
            await ensure_admin(settings, store, hasher)
            servicer = AuthServicer(
                section,
                store,
                sessions,
                api_tokens,
                invitations,
                keys,
                throttle,
                hasher,
                service_secret,
                UserImporter(database, hasher),
            )
            register = partial(auth_pb2_grpc.add_AuthServiceServicer_to_server, servicer)
            chores = (sessions.purge, api_tokens.purge, invitations.purge, throttle.purge, keys.tend)
            tidying = asyncio.create_task(_tidy_forever(chores))
            verifier = TokenVerifier(
                keys.public_keys, sessions.ended, refresh_seconds=REFRESH_SECONDS, retry_seconds=REFRESH_SECONDS
            )
            try:
                yield with_operations(Service(NAME, register, PUBLIC, SCOPES)), verifier
            finally:
                tidying.cancel()
                await asyncio.wait({tidying})


async def _tidy_forever(chores: tuple[Callable[[], Awaitable[None]], ...]) -> None:
    while True:
        for chore in chores:
            try:
                await chore()
            except (UnavailableError, DataLossError) as error:
                log.warning("a chore failed", error=error.message, reason=error.reason)
            except Exception:  # it tidies up only: sign-ins go on without it
                log.exception("a chore failed")
        await asyncio.sleep(CHORE_SECONDS)
