"""What auth keeps: users, sessions with their refresh tokens (as hashes), signing keys."""

import hashlib
import secrets
import unicodedata
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import ForeignKey, LargeBinary, MetaData, String, Text, delete, exists, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from services.auth.old_passwords import MAX_HASH
from services.auth.tokens import SigningKey
from services.common.database import COLUMN_TYPES, NAMING, Database
from services.common.errors import UnauthenticatedError

MAX_USERNAME = 64


class Base(DeclarativeBase):
    """Auth's tables."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = COLUMN_TYPES


class User(Base):
    """An account."""

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    username: Mapped[str] = mapped_column(String(MAX_USERNAME))
    # Names that differ only in case or in the encoding of their characters are the same name.
    folded_username: Mapped[str] = mapped_column(Text, unique=True)
    password_hash: Mapped[str] = mapped_column(String(MAX_HASH))
    admin: Mapped[bool]
    create_time: Mapped[datetime]


class Session(Base):
    """A sign-in: the family of refresh tokens that follow from it."""

    __tablename__ = "sessions"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    create_time: Mapped[datetime]
    end_time: Mapped[datetime | None]


class RefreshToken(Base):
    """A refresh token; the token itself is known to its bearer only."""

    __tablename__ = "refresh_tokens"

    digest: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    session_id: Mapped[str] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"), index=True)
    expire_time: Mapped[datetime] = mapped_column(index=True)
    spend_time: Mapped[datetime | None]


class StoredKey(Base):
    """A key that signs access tokens, or did so lately."""

    __tablename__ = "signing_keys"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    private_key: Mapped[bytes] = mapped_column(LargeBinary(32))
    create_time: Mapped[datetime]


class Store:
    """Auth's data.

    Args:
        database: auth's own, migrated.
        refresh_lifetime: how long a refresh token is valid.
    """

    def __init__(self, database: Database, refresh_lifetime: timedelta) -> None:
        self._database = database
        self.refresh_lifetime = refresh_lifetime

    async def has_users(self) -> bool:
        """Whether anybody can sign in."""
        async with self._database.read() as session:
            return bool(await session.scalar(select(exists(select(User.id)))))

    async def create_first_admin(self, username: str, password_hash: str, before_commit: Callable[[], None]) -> bool:
        """Creates an admin if there is no user yet, also where several processes start at once.

        Args:
            username: the admin's name.
            password_hash: of the admin's password.
            before_commit: called by the one process that creates the admin; if it raises, there is no admin.

        Returns:
            Whether it was this call that created one.
        """
        async with self._database.write(lock="auth first admin") as session:
            if await session.scalar(select(exists(select(User.id)))):
                return False
            session.add(
                User(
                    id=uuid.uuid4().hex,
                    username=username,
                    folded_username=fold(username),
                    password_hash=password_hash,
                    admin=True,
                    create_time=_now(),
                )
            )
            await session.flush()
            before_commit()
        return True

    async def user(self, user_id: str) -> User | None:
        """The user with an id."""
        async with self._database.read() as session:
            return await session.get(User, user_id)

    async def user_named(self, username: str) -> User | None:
        """The user with a name."""
        if len(username) > MAX_USERNAME:
            return None
        async with self._database.read() as session:
            return await session.scalar(select(User).where(User.folded_username == fold(username)))

    async def set_password_hash(self, user_id: str, password_hash: str) -> None:
        """Replaces the hash of a user's password."""
        async with self._database.write() as session:
            await session.execute(update(User).where(User.id == user_id).values(password_hash=password_hash))

    async def open_session(self, user_id: str) -> tuple[str, str]:
        """Begins a session.

        Returns:
            Its id and its first refresh token.
        """
        async with self._database.write() as session:
            opened = Session(id=uuid.uuid4().hex, user_id=user_id, create_time=_now())
            session.add(opened)
            await session.flush()
            return opened.id, self._add_refresh_token(session, opened.id)

    async def refresh(self, refresh_token: str) -> tuple[User, str, str]:
        """Spends a refresh token. One that is spent already has been stolen, or its heir has: the session ends.

        Returns:
            The user, the session's id and the next refresh token.

        Raises:
            UnauthenticatedError: unknown, expired or spent, or of an ended session (reason BAD_REFRESH_TOKEN).
        """
        renewed = None
        async with self._database.write() as session:
            # Locked in this order wherever sessions change, so that of two refreshes at once the second sees the first.
            family = await session.scalar(
                select(Session)
                .join(RefreshToken)
                .where(RefreshToken.digest == _digest(refresh_token))
                .with_for_update(of=Session)
            )
            token = await session.get(RefreshToken, _digest(refresh_token), populate_existing=True)
            if family and token and family.end_time is None and token.expire_time > _now():
                if token.spend_time is None:
                    token.spend_time = _now()
                    user = await session.get_one(User, family.user_id)
                    renewed = user, family.id, self._add_refresh_token(session, family.id)
                else:
                    family.end_time = _now()
        if renewed is None:
            raise UnauthenticatedError("The session has ended; sign in again.", "BAD_REFRESH_TOKEN")
        return renewed

    async def end_session(self, refresh_token: str) -> None:
        """Ends the session that a refresh token belongs to, if there is one."""
        async with self._database.write() as session:
            of_token = select(RefreshToken.session_id).where(RefreshToken.digest == _digest(refresh_token))
            await session.execute(
                update(Session)
                .where(Session.id.in_(of_token), Session.end_time.is_(None))
                .values(end_time=_now())
                .execution_options(synchronize_session=False)
            )

    async def signing_keys(self) -> list[SigningKey]:
        """All keys that tokens may be signed with, newest first; there is always one."""
        query = select(StoredKey).order_by(StoredKey.create_time.desc(), StoredKey.id)
        async with self._database.read() as session:
            stored = list(await session.scalars(query))
        if not stored:
            async with self._database.write(lock="auth signing keys") as session:
                stored = list(await session.scalars(query))
                if not stored:
                    key = SigningKey.generate()
                    private = key.private_key.private_bytes_raw()
                    stored = [StoredKey(id=key.key_id, private_key=private, create_time=_now())]
                    session.add_all(stored)
        return [SigningKey(key.id, Ed25519PrivateKey.from_private_bytes(key.private_key)) for key in stored]

    async def purge(self) -> None:
        """Forgets refresh tokens that have expired, and sessions that have none left."""
        async with self._database.write() as session:
            await session.execute(delete(RefreshToken).where(RefreshToken.expire_time < _now()))
            await session.execute(
                delete(Session)
                .where(~exists().where(RefreshToken.session_id == Session.id))
                .execution_options(synchronize_session=False)
            )

    def _add_refresh_token(self, session: AsyncSession, session_id: str) -> str:
        token = secrets.token_urlsafe(32)
        expires = _now() + self.refresh_lifetime
        session.add(RefreshToken(digest=_digest(token), session_id=session_id, expire_time=expires))
        return token


def fold(username: str) -> str:
    """What two spellings of one name have in common."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", username).casefold())


def _digest(refresh_token: str) -> bytes:
    # Tokens are 256 random bits: a fast hash without salt cannot be turned back.
    return hashlib.sha256(refresh_token.encode()).digest()


def _now() -> datetime:
    return datetime.now(UTC)
