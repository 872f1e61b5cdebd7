"""Notes on a track's original."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("tracks", sa.Column("file_notes", sa.JSON))
