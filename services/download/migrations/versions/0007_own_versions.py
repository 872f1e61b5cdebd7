"""Creates users' own stems and parts of shared tracks. Existing ones stay shared."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "own_analyses",
        sa.Column("user_id", sa.String(100), nullable=False),
        sa.Column("track_id", sa.String(32), nullable=False),
        sa.Column("part", sa.String(20), nullable=False),
        sa.Column("content", sa.JSON, nullable=False),
        sa.Column("summary", sa.JSON, nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "track_id", "part", name="pk_own_analyses"),
        _owner("own_analyses"),
    )
    op.create_index("ix_own_analyses_track_id", "own_analyses", ["track_id"])
    op.create_table(
        "own_stems",
        sa.Column("user_id", sa.String(100), nullable=False),
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
        sa.Column("size_bytes", sa.BigInteger),
        sa.PrimaryKeyConstraint("user_id", "track_id", "model", "name", name="pk_own_stems"),
        _owner("own_stems"),
    )
    for column in ("track_id", "audio_key", "peaks_key"):
        op.create_index(f"ix_own_stems_{column}", "own_stems", [column])


def _owner(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["user_id", "track_id"],
        ["access.user_id", "access.track_id"],
        name=f"fk_{table}_user_id_track_id_access",
        ondelete="CASCADE",
    )
