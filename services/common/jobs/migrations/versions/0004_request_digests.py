"""A digest of each request, to distinguish it from another one with the same id; earlier rows have none."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("job_request", sa.Column("digest", sa.String(130)))
    op.add_column("job_request", sa.Column("open_calls", sa.Integer, nullable=False, server_default="0"))
    op.add_column("job_request", sa.Column("created_at", sa.Float))
