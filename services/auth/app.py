"""The auth service, put together from its settings."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial

import structlog

from services.auth.config import AuthSettings
from services.auth.first_admin import ensure_admin
from services.auth.importing import UserImporter
from services.auth.passwords import PasswordHasher
from services.auth.service import NAME, PUBLIC, AuthServicer
from services.auth.store import Store
from services.auth.tokens import TokenIssuer
from services.common.auth import PublicKeys, TokenVerifier
from services.common.database import Database, migrate
from services.common.server import Service
from stemtube.auth.v1 import auth_pb2_grpc

log = structlog.get_logger(__name__)

PURGE_SECONDS = 3600.0


@contextlib.asynccontextmanager
async def open_auth(settings: AuthSettings) -> AsyncIterator[tuple[Service, TokenVerifier]]:
    """The service, ready to be served, and the verifier of its callers, which asks its own database for keys.

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
            store = Store(database, settings.auth.refresh_token_lifetime)
            issuer = TokenIssuer((await store.signing_keys())[0], settings.auth.access_token_lifetime)
            await ensure_admin(settings, store, hasher)
            servicer = AuthServicer(store, hasher, issuer, service_secret, UserImporter(database, hasher))
            register = partial(auth_pb2_grpc.add_AuthServiceServicer_to_server, servicer)
            purging = asyncio.create_task(_purge_forever(store))
            try:
                yield Service(NAME, register, PUBLIC), TokenVerifier(partial(_public_keys, store))
            finally:
                purging.cancel()
                await asyncio.wait({purging})


async def _public_keys(store: Store) -> PublicKeys:
    return {key.key_id: key.public_key for key in await store.signing_keys()}


async def _purge_forever(store: Store) -> None:
    while True:
        try:
            await store.purge()
        except Exception:  # it tidies up only: sign-ins go on without it
            log.exception("cannot forget expired sessions")
        await asyncio.sleep(PURGE_SECONDS)
