"""Adds links that are fetched with the operator's cookies: each such track belongs to one user."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("tracks", sa.Column("private_url", sa.Text))
    op.create_index("ix_tracks_owner_private_url", "tracks", ["owner_id", "private_url"], unique=True)
