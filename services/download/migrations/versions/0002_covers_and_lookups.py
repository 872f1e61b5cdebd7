"""Adds covers, sources and licences of tracks, and answers of sites."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    with op.batch_alter_table("tracks") as table:
        table.add_column(sa.Column("cover_key", sa.String(200), nullable=False, server_default=""))
        table.add_column(sa.Column("source", sa.String(60), nullable=False, server_default=""))
        table.add_column(sa.Column("license", sa.String(300), nullable=False, server_default=""))
        table.create_index("ix_tracks_cover_key", ["cover_key"])
    op.create_table(
        "lookups",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("content", sa.JSON, nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_lookups"),
    )
    op.create_index("ix_lookups_create_time", "lookups", ["create_time"])
