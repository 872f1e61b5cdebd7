"""Auth's tables: users, sessions with refresh tokens, API tokens, invitations, failed sign-ins, signing keys."""

from datetime import datetime

from sqlalchemy import ForeignKey, LargeBinary, MetaData, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from services.auth.passwords.old_hashes import MAX_HASH
from services.common.limits import MAX_TOKEN_NAME, MAX_USERNAME
from services.common.rpc.peers import MAX_CLIENT_NAME
from services.common.storage.database import COLUMN_TYPES, NAMING

MAX_EMAIL = 254
MAX_ADDRESS = 45


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
    email: Mapped[str] = mapped_column(String(MAX_EMAIL), default="")
    password_hash: Mapped[str] = mapped_column(String(MAX_HASH))
    # With a one-time password a user can only choose another. It expires only if password_expire_time is set.
    must_change_password: Mapped[bool] = mapped_column(default=False)
    password_expire_time: Mapped[datetime | None]
    admin: Mapped[bool]
    disabled: Mapped[bool] = mapped_column(default=False)
    create_time: Mapped[datetime]


class Session(Base):
    """A session: all refresh tokens that replaced one another since a sign-in."""

    __tablename__ = "sessions"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    create_time: Mapped[datetime]
    last_use_time: Mapped[datetime | None]
    end_time: Mapped[datetime | None] = mapped_column(index=True)
    address: Mapped[str] = mapped_column(String(MAX_ADDRESS), default="")
    client: Mapped[str] = mapped_column(String(MAX_CLIENT_NAME), default="")


class RefreshToken(Base):
    """A refresh token; only its hash is stored."""

    __tablename__ = "refresh_tokens"

    digest: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    session_id: Mapped[str] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"), index=True)
    expire_time: Mapped[datetime] = mapped_column(index=True)
    spend_time: Mapped[datetime | None]


class ApiToken(Base):
    """An API token, with which a user's script signs in; only its hash is stored."""

    __tablename__ = "api_tokens"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(MAX_TOKEN_NAME))
    # Separated by spaces.
    scopes: Mapped[str] = mapped_column(String(64))
    create_time: Mapped[datetime]
    expire_time: Mapped[datetime]
    last_use_time: Mapped[datetime | None]
    end_time: Mapped[datetime | None] = mapped_column(index=True)


class Invitation(Base):
    """Lets a limited number of people register."""

    __tablename__ = "invitations"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    uses_left: Mapped[int]
    create_time: Mapped[datetime]
    expire_time: Mapped[datetime]


class Attempts(Base):
    """How often a sign-in failed for one account or from one address, and when the next is allowed."""

    __tablename__ = "attempts"

    # A hash of the name: an unknown name may be a password that was typed into the wrong field.
    key: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    count: Mapped[int]
    last_time: Mapped[datetime] = mapped_column(index=True)
    allow_time: Mapped[datetime]


class StoredKey(Base):
    """A key that signs access tokens, or did so recently."""

    __tablename__ = "signing_keys"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    private_key: Mapped[bytes] = mapped_column(LargeBinary(32))
    create_time: Mapped[datetime]
