"""Notes on a track's original, and names that an upload of the same sound offers."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("tracks", sa.Column("file_notes", sa.JSON))
    op.add_column("access", sa.Column("offered_title", sa.String(300)))
    op.add_column("access", sa.Column("offered_artist", sa.String(300)))
