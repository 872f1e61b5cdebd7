"""Creates tracks, access, stems and analyses."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "tracks",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("title", sa.String(300), nullable=False),
        sa.Column("artist", sa.String(300), nullable=False),
        sa.Column("source_url", sa.Text),
        sa.Column("owner_id", sa.String(100)),
        sa.Column("content_hash", sa.String(64), nullable=False),
        sa.Column("audio_key", sa.String(200), nullable=False),
        sa.Column("peaks_key", sa.String(200), nullable=False),
        sa.Column("suffix", sa.String(10), nullable=False),
        sa.Column("duration_seconds", sa.Float, nullable=False),
        sa.Column("sample_rate_hz", sa.Integer, nullable=False),
        sa.Column("channels", sa.Integer, nullable=False),
        sa.Column("loudness_lufs", sa.Float, nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tracks"),
        sa.UniqueConstraint("source_url", name="uq_tracks_source_url"),
    )
    op.create_index("ix_tracks_owner_content", "tracks", ["owner_id", "content_hash"])
    op.create_index("ix_tracks_audio_key", "tracks", ["audio_key"])
    op.create_table(
        "access",
        sa.Column("user_id", sa.String(100), nullable=False),
        sa.Column("track_id", sa.String(32), nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "track_id", name="pk_access"),
        sa.ForeignKeyConstraint(["track_id"], ["tracks.id"], name="fk_access_track_id_tracks", ondelete="CASCADE"),
    )
    op.create_index("ix_access_track_id", "access", ["track_id"])
    op.create_index("ix_access_user_time", "access", ["user_id", "create_time", "track_id"])
    op.create_table(
        "stems",
        sa.Column("track_id", sa.String(32), nullable=False),
        sa.Column("model", sa.String(100), nullable=False),
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("audio_key", sa.String(200), nullable=False),
        sa.Column("peaks_key", sa.String(200), nullable=False),
        sa.Column("duration_seconds", sa.Float, nullable=False),
        sa.Column("sample_rate_hz", sa.Integer, nullable=False),
        sa.Column("silent", sa.Boolean, nullable=False),
        sa.Column("gain", sa.Float, nullable=False),
        sa.Column("made_by", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("track_id", "model", "name", name="pk_stems"),
        sa.ForeignKeyConstraint(["track_id"], ["tracks.id"], name="fk_stems_track_id_tracks", ondelete="CASCADE"),
    )
    op.create_index("ix_stems_audio_key", "stems", ["audio_key"])
    op.create_table(
        "analyses",
        sa.Column("track_id", sa.String(32), nullable=False),
        sa.Column("part", sa.String(20), nullable=False),
        sa.Column("content", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("track_id", "part", name="pk_analyses"),
        sa.ForeignKeyConstraint(["track_id"], ["tracks.id"], name="fk_analyses_track_id_tracks", ondelete="CASCADE"),
    )
