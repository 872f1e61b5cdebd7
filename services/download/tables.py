"""The library's tables: tracks, stems and analyses, and each user's access, own versions and edits."""

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
# Length of the columns that lists are sorted by: an index entry of PostgreSQL has at most 2.7 kB.
SORTED_CHARACTERS = 80


def _sorted_text(length: int) -> String:
    """Text that sorts by code points in both databases, so that the order of pages is the same. SQLite always does."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


class Base(DeclarativeBase):
    """The library's tables."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = COLUMN_TYPES


class Track(Base):
    """A song. Until its audio has arrived, `audio_key` is empty and the columns that describe the audio are 0."""

    __tablename__ = "tracks"
    __table_args__ = (
        Index("ix_tracks_owner_content", "owner_id", "content_hash"),
        Index("ix_tracks_owner_private_url", "owner_id", "private_url", unique=True),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    title: Mapped[str] = mapped_column(String(MAX_TITLE))
    artist: Mapped[str] = mapped_column(String(MAX_TITLE))
    # The link; all users of a link share one track. Null for an upload or a private link.
    source_url: Mapped[str | None] = mapped_column(Text, unique=True)
    # A link that is fetched with the operator's cookies; the track belongs to its owner alone.
    private_url: Mapped[str | None] = mapped_column(Text)
    # The only user of an upload or a private link. Null for a shared link.
    owner_id: Mapped[str | None] = mapped_column(String(100))
    content_hash: Mapped[str] = mapped_column(String(64))
    audio_key: Mapped[str] = mapped_column(String(200), index=True)
    peaks_key: Mapped[str] = mapped_column(String(200), index=True)
    # Key of a picture; empty if there is none.
    cover_key: Mapped[str] = mapped_column(String(200), index=True)
    # The site of a link, and the licence that it states; empty if unknown, and for an upload.
    source: Mapped[str] = mapped_column(String(MAX_SOURCE))
    license: Mapped[str] = mapped_column(String(MAX_TITLE))
    suffix: Mapped[str] = mapped_column(String(10))
    duration_seconds: Mapped[float]
    sample_rate_hz: Mapped[int]
    channels: Mapped[int]
    loudness_lufs: Mapped[float]
    create_time: Mapped[datetime]
    # Size of the original, its peaks and its picture; null until measured.
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    # Notes on the original, each with `reason` and `message`; null for none.
    file_notes: Mapped[list[dict[str, str]] | None] = mapped_column(JSON)

    @property
    def url(self) -> str:
        """The link; empty for an upload."""
        return self.source_url or self.private_url or ""


class Access(Base):
    """A user's access to a track, with the user's own title, artist and notes."""

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
    # The user's own title and artist; null for those of the track.
    title: Mapped[str | None] = mapped_column(String(MAX_TITLE))
    artist: Mapped[str | None] = mapped_column(String(MAX_TITLE))
    # Title and artist of the tags with which the user uploaded the same sound again; null if none differ.
    offered_title: Mapped[str | None] = mapped_column(String(MAX_TITLE))
    offered_artist: Mapped[str | None] = mapped_column(String(MAX_TITLE))
    favourite: Mapped[bool] = mapped_column(default=False)
    notes: Mapped[str] = mapped_column(Text, default="")
    # When the user deleted the track. It can be restored for a while.
    remove_time: Mapped[datetime | None] = mapped_column(index=True)
    # Copies of the values that lists are filtered and sorted by, edits included, so that a page reads one index.
    sort_title: Mapped[str] = mapped_column(_sorted_text(SORTED_CHARACTERS), default="")
    sort_artist: Mapped[str] = mapped_column(_sorted_text(2 * SORTED_CHARACTERS + 1), default="")
    search_text: Mapped[str] = mapped_column(Text, default="")
    tempo_bpm: Mapped[float] = mapped_column(default=0.0)
    key_number: Mapped[int] = mapped_column(SmallInteger, default=-1)
    duration_seconds: Mapped[float] = mapped_column(default=0.0)


class StemColumns:
    """The columns of a stem. Tracks of equal audio may share its objects."""

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
    # Size of the stem and its peaks; null until measured.
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)


class Stem(StemColumns, Base):
    """A stem that all users of a track share."""

    __tablename__ = "stems"

    track_id: Mapped[str] = mapped_column(ForeignKey("tracks.id", ondelete="CASCADE"), primary_key=True)


class OwnStem(StemColumns, Base):
    """A user's own stem, in addition to the shared ones or instead of one (see `versions`)."""

    __tablename__ = "own_stems"
    __table_args__ = (
        ForeignKeyConstraint(["user_id", "track_id"], ["access.user_id", "access.track_id"], ondelete="CASCADE"),
        Index("ix_own_stems_track_id", "track_id"),
    )

    user_id: Mapped[str] = mapped_column(String(100), primary_key=True)
    track_id: Mapped[str] = mapped_column(String(32), primary_key=True)


class Analysis(Base):
    """A part of the analysis that all users of a track share.

    `content` is its message (`Beats` …) as ProtoJSON. `summary` is the content without its lists, for lists of tracks.
    """

    __tablename__ = "analyses"

    track_id: Mapped[str] = mapped_column(ForeignKey("tracks.id", ondelete="CASCADE"), primary_key=True)
    part: Mapped[str] = mapped_column(String(20), primary_key=True)
    content: Mapped[dict[str, Any]] = mapped_column(JSON)
    summary: Mapped[dict[str, Any]] = mapped_column(JSON)
    # Null in rows from before there was this column.
    create_time: Mapped[datetime | None]


class OwnAnalysis(Base):
    """A user's own version of a part, instead of the shared one (see `versions`); otherwise as `Analysis`."""

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
    """A part that a user has corrected. It hides the computed one. Content and summary are as in `Analysis`."""

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
    """A playlist of a user."""

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
    """A track's position in a playlist."""

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
    """A file that arrives in pieces, each an object `uploads/ID/PART`. Removed some time after `expire_time`."""

    __tablename__ = "uploads"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    user_id: Mapped[str] = mapped_column(String(100), index=True)
    filename: Mapped[str] = mapped_column(Text)
    # `ProcessingOptions` of the track's job as ProtoJSON; null to make everything.
    options: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    # Any text of the client's.
    client_metadata: Mapped[str] = mapped_column(Text)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    offset_bytes: Mapped[int] = mapped_column(BigInteger)
    # Names of the pieces that have arrived, in order.
    parts: Mapped[list[str]] = mapped_column(JSON)
    # The track and job of a complete upload; empty until then.
    track_id: Mapped[str] = mapped_column(String(32))
    job_id: Mapped[str] = mapped_column(String(100))
    expire_time: Mapped[datetime] = mapped_column(index=True)


class StoredKind(Base):
    """The objects below a prefix of the object store, when they were last counted."""

    __tablename__ = "stored_kinds"

    prefix: Mapped[str] = mapped_column(String(40), primary_key=True)
    object_count: Mapped[int] = mapped_column(BigInteger)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    count_time: Mapped[datetime]


class StoreIdentity(Base):
    """The identity of the library's object store: a single row. The store's marker object has the same `store_id`."""

    __tablename__ = "store_identity"

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    store_id: Mapped[str] = mapped_column(String(32))
    # False until the marker is known to be in the store.
    confirmed: Mapped[bool]


class ObjectState(Base):
    """The state of an object. Each time is null if it does not apply."""

    __tablename__ = "object_states"

    key: Mapped[str] = mapped_column(String(220), primary_key=True)
    # Since when a record needs it and it is not in the store.
    missing_since: Mapped[datetime | None]
    # Since when its bytes do not have the digest in its key.
    damaged_since: Mapped[datetime | None]
    # Since when no record needs it. For an object in the trash: when it was put there.
    unneeded_since: Mapped[datetime | None]
    # When it was last compared with the digest in its key.
    check_time: Mapped[datetime | None]


class OutstandingRequests(Base):
    """A job of a track that may have sent requests to other services. They are withdrawn if it ends early."""

    __tablename__ = "outstanding_requests"

    job_id: Mapped[str] = mapped_column(String(100), primary_key=True)
    # Vocals that are used for its lyrics, kept as long as this row exists; null if there are none.
    vocals_key: Mapped[str | None] = mapped_column(String(200), index=True)


class Quota(Base):
    """The individual quota of a user, in place of the one in the settings; 0: no limit."""

    __tablename__ = "quotas"

    user_id: Mapped[str] = mapped_column(String(100), primary_key=True)
    quota_bytes: Mapped[int] = mapped_column(BigInteger)


class Reservation(Base):
    """Reserved room in a user's quota. The reservation of an upload in pieces has the upload's id."""

    __tablename__ = "reservations"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    user_id: Mapped[str] = mapped_column(String(100), index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    # Whether the size grows with a stream that is still arriving.
    growing: Mapped[bool]
    create_time: Mapped[datetime]
    expire_time: Mapped[datetime] = mapped_column(index=True)


class Lookup(Base):
    """A site's answer to a search or look-up; `content` is the result of `LookupWork`."""

    __tablename__ = "lookups"

    # SHA-256 of the question, in hex.
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    content: Mapped[dict[str, Any]] = mapped_column(JSON)
    create_time: Mapped[datetime] = mapped_column(index=True)
