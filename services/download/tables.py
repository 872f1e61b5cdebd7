"""The library's tables: tracks, their stems and analyses, and what each user has of them, says of them and corrects."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    MetaData,
    SmallInteger,
    String,
    Text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from services.common.limits import MAX_PLAYLIST_NAME, MAX_TITLE
from services.common.storage.database import COLUMN_TYPES, NAMING

MAX_SOURCE = 60
# Of what lists are sorted by: PostgreSQL takes at most 2.7 kB into an index.
SORTED_CHARACTERS = 80


def _sorted_text(length: int) -> String:
    """Text that sorts by code points, as SQLite's does anyway: pages go on where the last one ended on both."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


class Base(DeclarativeBase):
    """The library's tables."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = COLUMN_TYPES


class Track(Base):
    """A song. `audio_key` is empty while there is no audio; what describes the audio is 0 until it has arrived."""

    __tablename__ = "tracks"
    __table_args__ = (
        Index("ix_tracks_owner_content", "owner_id", "content_hash"),
        Index("ix_tracks_owner_private_url", "owner_id", "private_url", unique=True),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    title: Mapped[str] = mapped_column(String(MAX_TITLE))
    artist: Mapped[str] = mapped_column(String(MAX_TITLE))
    # Of a link: the same link is the same track for all users. Null for an upload.
    source_url: Mapped[str | None] = mapped_column(Text, unique=True)
    # Of a link that is fetched with the operator's cookies: what they bring is its owner's alone.
    private_url: Mapped[str | None] = mapped_column(Text)
    # Of an upload or a private link: it is its owner's alone. Null for another link.
    owner_id: Mapped[str | None] = mapped_column(String(100))
    content_hash: Mapped[str] = mapped_column(String(64))
    audio_key: Mapped[str] = mapped_column(String(200), index=True)
    peaks_key: Mapped[str] = mapped_column(String(200), index=True)
    # A picture; empty if there is none.
    cover_key: Mapped[str] = mapped_column(String(200), index=True)
    # The site that a link leads to and the licence it tells; empty if unknown, and for an upload.
    source: Mapped[str] = mapped_column(String(MAX_SOURCE))
    license: Mapped[str] = mapped_column(String(MAX_TITLE))
    suffix: Mapped[str] = mapped_column(String(10))
    duration_seconds: Mapped[float]
    sample_rate_hz: Mapped[int]
    channels: Mapped[int]
    loudness_lufs: Mapped[float]
    create_time: Mapped[datetime]
    # Of the original, its peaks and its picture; null until measured.
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)

    @property
    def url(self) -> str:
        """The link; empty for an upload."""
        return self.source_url or self.private_url or ""


class Access(Base):
    """A user who has a track in the library, and what the track is for that user."""

    __tablename__ = "access"
    __table_args__ = (
        Index("ix_access_user_time", "user_id", "create_time", "track_id"),
        Index("ix_access_user_title", "user_id", "sort_title", "track_id"),
        Index("ix_access_user_artist", "user_id", "sort_artist", "track_id"),
        Index("ix_access_user_tempo", "user_id", "tempo_bpm", "track_id"),
        Index("ix_access_user_duration", "user_id", "duration_seconds", "track_id"),
    )

    user_id: Mapped[str] = mapped_column(String(100), primary_key=True)
    track_id: Mapped[str] = mapped_column(ForeignKey("tracks.id", ondelete="CASCADE"), primary_key=True, index=True)
    create_time: Mapped[datetime]
    # Null: the track's own.
    title: Mapped[str | None] = mapped_column(String(MAX_TITLE))
    artist: Mapped[str | None] = mapped_column(String(MAX_TITLE))
    favourite: Mapped[bool] = mapped_column(default=False)
    notes: Mapped[str] = mapped_column(Text, default="")
    # When the user deleted the track; it can be restored for a while.
    remove_time: Mapped[datetime | None] = mapped_column(index=True)
    # What lists are filtered and sorted by, edits included: a copy, so that a page is one look at one index.
    sort_title: Mapped[str] = mapped_column(_sorted_text(SORTED_CHARACTERS), default="")
    sort_artist: Mapped[str] = mapped_column(_sorted_text(2 * SORTED_CHARACTERS + 1), default="")
    search_text: Mapped[str] = mapped_column(Text, default="")
    tempo_bpm: Mapped[float] = mapped_column(default=0.0)
    key_number: Mapped[int] = mapped_column(SmallInteger, default=-1)
    duration_seconds: Mapped[float] = mapped_column(default=0.0)


class StemColumns:
    """What a stem is; several tracks of equal audio may share its objects."""

    model: Mapped[str] = mapped_column(String(100), primary_key=True)
    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    position: Mapped[int]
    audio_key: Mapped[str] = mapped_column(String(200), index=True)
    peaks_key: Mapped[str] = mapped_column(String(200), index=True)
    duration_seconds: Mapped[float]
    sample_rate_hz: Mapped[int]
    silent: Mapped[bool]
    gain: Mapped[float]
    made_by: Mapped[dict[str, Any]] = mapped_column(JSON)
    # Of the stem and its peaks; null until measured.
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)


class Stem(StemColumns, Base):
    """A stem of a track that all who have the track share."""

    __tablename__ = "stems"

    track_id: Mapped[str] = mapped_column(ForeignKey("tracks.id", ondelete="CASCADE"), primary_key=True)


class OwnStem(StemColumns, Base):
    """A stem that one user has beside or in place of the shared one (see `versions`)."""

    __tablename__ = "own_stems"
    __table_args__ = (
        ForeignKeyConstraint(["user_id", "track_id"], ["access.user_id", "access.track_id"], ondelete="CASCADE"),
        Index("ix_own_stems_track_id", "track_id"),
    )

    user_id: Mapped[str] = mapped_column(String(100), primary_key=True)
    track_id: Mapped[str] = mapped_column(String(32), primary_key=True)


class Analysis(Base):
    """One part of what all who have a track know of its music; `content` is its message (`Beats` …) as ProtoJSON.

    `summary` is the content without its lists: what the many tracks of a page need.
    """

    __tablename__ = "analyses"

    track_id: Mapped[str] = mapped_column(ForeignKey("tracks.id", ondelete="CASCADE"), primary_key=True)
    part: Mapped[str] = mapped_column(String(20), primary_key=True)
    content: Mapped[dict[str, Any]] = mapped_column(JSON)
    summary: Mapped[dict[str, Any]] = mapped_column(JSON)
    # Null: before such times were kept.
    create_time: Mapped[datetime | None]


class OwnAnalysis(Base):
    """A part that one user has in place of the shared one (see `versions`); content and summary as in `Analysis`."""

    __tablename__ = "own_analyses"
    __table_args__ = (
        ForeignKeyConstraint(["user_id", "track_id"], ["access.user_id", "access.track_id"], ondelete="CASCADE"),
        Index("ix_own_analyses_track_id", "track_id"),
    )

    user_id: Mapped[str] = mapped_column(String(100), primary_key=True)
    track_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    part: Mapped[str] = mapped_column(String(20), primary_key=True)
    content: Mapped[dict[str, Any]] = mapped_column(JSON)
    summary: Mapped[dict[str, Any]] = mapped_column(JSON)
    create_time: Mapped[datetime]


class Edit(Base):
    """A part as a user has corrected it, beside the computed one; content and summary as in `Analysis`."""

    __tablename__ = "edits"
    __table_args__ = (
        ForeignKeyConstraint(["user_id", "track_id"], ["access.user_id", "access.track_id"], ondelete="CASCADE"),
        Index("ix_edits_track_id", "track_id"),
    )

    user_id: Mapped[str] = mapped_column(String(100), primary_key=True)
    track_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    part: Mapped[str] = mapped_column(String(20), primary_key=True)
    content: Mapped[dict[str, Any]] = mapped_column(JSON)
    summary: Mapped[dict[str, Any]] = mapped_column(JSON)
    edit_time: Mapped[datetime]


class Playlist(Base):
    """Tracks of a user in an order."""

    __tablename__ = "playlists"
    __table_args__ = (Index("ix_playlists_user_time", "user_id", "create_time", "id"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    user_id: Mapped[str] = mapped_column(String(100))
    name: Mapped[str] = mapped_column(String(MAX_PLAYLIST_NAME))
    notes: Mapped[str] = mapped_column(Text)
    create_time: Mapped[datetime]
    change_time: Mapped[datetime]
    revision: Mapped[int] = mapped_column(BigInteger)


class PlaylistTrack(Base):
    """A track's place in a playlist."""

    __tablename__ = "playlist_tracks"
    __table_args__ = (
        ForeignKeyConstraint(["user_id", "track_id"], ["access.user_id", "access.track_id"], ondelete="CASCADE"),
        Index("ix_playlist_tracks_position", "playlist_id", "position"),
        Index("ix_playlist_tracks_user_track", "user_id", "track_id"),
    )

    playlist_id: Mapped[str] = mapped_column(ForeignKey("playlists.id", ondelete="CASCADE"), primary_key=True)
    track_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    user_id: Mapped[str] = mapped_column(String(100))
    position: Mapped[int]


class Upload(Base):
    """A file that arrives in pieces, each an object `uploads/ID/PART`; forgotten some time after `expire_time`."""

    __tablename__ = "uploads"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    user_id: Mapped[str] = mapped_column(String(100), index=True)
    filename: Mapped[str] = mapped_column(Text)
    # What shall be made of it: `ProcessingOptions` as ProtoJSON; null for everything.
    options: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    # The client's own.
    client_metadata: Mapped[str] = mapped_column(Text)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    offset_bytes: Mapped[int] = mapped_column(BigInteger)
    # Names of what has arrived, in order.
    parts: Mapped[list[str]] = mapped_column(JSON)
    # What it has become; empty until it is complete.
    track_id: Mapped[str] = mapped_column(String(32))
    job_id: Mapped[str] = mapped_column(String(100))
    expire_time: Mapped[datetime] = mapped_column(index=True)


class StoredKind(Base):
    """What lies below one prefix of the object store, as counted last."""

    __tablename__ = "stored_kinds"

    prefix: Mapped[str] = mapped_column(String(40), primary_key=True)
    object_count: Mapped[int] = mapped_column(BigInteger)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    count_time: Mapped[datetime]


class StoreIdentity(Base):
    """The object store that belongs to this library, as one row; its marker object has the same `store_id`."""

    __tablename__ = "store_identity"

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    store_id: Mapped[str] = mapped_column(String(32))
    # False until the marker is known to be in the store.
    confirmed: Mapped[bool]


class ObjectState(Base):
    """What is known of an object beyond its record; times are null where they do not apply."""

    __tablename__ = "object_states"

    key: Mapped[str] = mapped_column(String(220), primary_key=True)
    # A record needs it, and it is not in the store.
    missing_since: Mapped[datetime | None]
    # Its bytes do not have the digest that its key tells.
    damaged_since: Mapped[datetime | None]
    # No record needs it. Of an object in the trash: when it was put there.
    unneeded_since: Mapped[datetime | None]
    # When its digest was last compared.
    check_time: Mapped[datetime | None]


class OutstandingRequests(Base):
    """A job of a track that may have requests at other services: withdrawn if it ends without their results."""

    __tablename__ = "outstanding_requests"

    job_id: Mapped[str] = mapped_column(String(100), primary_key=True)
    # Of the vocals that its lyrics are made from, which stay as long as this row; null while there are none.
    vocals_key: Mapped[str | None] = mapped_column(String(200), index=True)


class Quota(Base):
    """What one user's tracks may take, where that is not what the settings say; 0: no limit."""

    __tablename__ = "quotas"

    user_id: Mapped[str] = mapped_column(String(100), primary_key=True)
    quota_bytes: Mapped[int] = mapped_column(BigInteger)


class Reservation(Base):
    """Room in a user's quota for something on its way; an upload in pieces has one with its own id."""

    __tablename__ = "reservations"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    user_id: Mapped[str] = mapped_column(String(100), index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    # The size is what has arrived so far of a stream.
    growing: Mapped[bool]
    create_time: Mapped[datetime]
    expire_time: Mapped[datetime] = mapped_column(index=True)


class Lookup(Base):
    """What a site answered; `content` is the answer, as `LookupWork` gives it."""

    __tablename__ = "lookups"

    # SHA-256 in hex of the question.
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    content: Mapped[dict[str, Any]] = mapped_column(JSON)
    create_time: Mapped[datetime] = mapped_column(index=True)
