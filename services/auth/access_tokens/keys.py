"""The keys that sign access tokens, and their rotation, during which every valid token stays valid."""

import itertools
import time
from datetime import timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.auth.access_tokens.issuer import SigningKey
from services.auth.rechecks import calling_admin
from services.auth.tables import StoredKey
from services.auth.times import now
from services.common.rpc.auth import Identity, PublicKeys
from services.common.storage.database import Database

# Services fetch the published keys at least once a minute; after twice that, all of them know a new key.
PUBLISHED_BEFORE_USE = timedelta(seconds=120)
# How long a replica of auth remembers which key signs; for as long it may sign with the previous key.
REMEMBER_SECONDS = 10.0
# Streams and uploads outlive the token that they began with, and end when its key is deleted.
MARGIN = timedelta(days=1)


class KeyRing:
    """All signing keys. The first is created when it is needed.

    Args:
        database: auth's own.
        token_lifetime: of access tokens; a key stays published for a day after its last token has expired.
        rotate_after: age of the newest key at which the next one is created.
    """

    def __init__(self, database: Database, token_lifetime: timedelta, rotate_after: timedelta) -> None:
        self._database = database
        self._token_lifetime = token_lifetime
        self._rotate_after = rotate_after
        self._signing: SigningKey | None = None
        self._read_at = float("-inf")
        self._rotations = 0

    async def signing_key(self) -> SigningKey:
        """The key to sign with: the newest that every service must know."""
        while self._signing is None or time.monotonic() - self._read_at > REMEMBER_SECONDS:
            rotations = self._rotations
            found = _in_use(await self._stored())
            # Otherwise the keys were rotated, and perhaps withdrawn, while they were read.
            if rotations == self._rotations:
                self._signing, self._read_at = found, time.monotonic()
        return self._signing

    async def public_keys(self) -> PublicKeys:
        """The keys that services verify tokens with, by key id."""
        return {key.id: _signing_key(key).public_key for key in await self._stored()}

    async def rotate(self, *, by: Identity, withdraw_older: bool = False) -> str:
        """Creates a new key.

        Args:
            by: the admin who asks.
            withdraw_older: the older keys have leaked: deletes them at once, so that all tokens become invalid.

        Returns:
            The new key's id.

        Raises:
            UnauthenticatedError, PermissionDeniedError: as for `calling_admin`.
        """
        async with self._database.write(lock="auth signing keys") as session:
            await calling_admin(session, by)
            if withdraw_older:
                await session.execute(delete(StoredKey))
            key = _add_key(session)
        self._signing = None
        self._rotations += 1
        return key.id

    async def maintain(self) -> None:
        """Creates the next key when the newest is old enough, and deletes keys whose last token expired a day ago."""
        async with self._database.write(lock="auth signing keys") as session:
            keys = list(await session.scalars(_NEWEST_FIRST))
            if keys and now() - keys[0].create_time > self._rotate_after:
                keys.insert(0, _add_key(session))
            for newer, older in itertools.pairwise(keys):
                replaced = newer.create_time + PUBLISHED_BEFORE_USE
                if replaced + self._token_lifetime + MARGIN < now():
                    await session.delete(older)

    async def _stored(self) -> list[StoredKey]:
        async with self._database.read() as session:
            stored = list(await session.scalars(_NEWEST_FIRST))
        if not stored:
            async with self._database.write(lock="auth signing keys") as session:
                stored = list(await session.scalars(_NEWEST_FIRST)) or [_add_key(session)]
        return stored


_NEWEST_FIRST = select(StoredKey).order_by(StoredKey.create_time.desc(), StoredKey.id)


def _add_key(session: AsyncSession) -> StoredKey:
    key = SigningKey.generate()
    stored = StoredKey(id=key.key_id, private_key=key.private_key.private_bytes_raw(), create_time=now())
    session.add(stored)
    return stored


def _in_use(newest_first: list[StoredKey]) -> SigningKey:
    known_since = now() - PUBLISHED_BEFORE_USE
    # If no key is that old, the oldest is the first of all, or the older ones were withdrawn: no other can sign.
    chosen = next((key for key in newest_first if key.create_time <= known_since), newest_first[-1])
    return _signing_key(chosen)


def _signing_key(stored: StoredKey) -> SigningKey:
    return SigningKey(stored.id, Ed25519PrivateKey.from_private_bytes(stored.private_key))
