"""The vocals that a job's lyrics are made from."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("outstanding_requests", sa.Column("vocals_key", sa.String(200)))
    op.create_index("ix_outstanding_requests_vocals_key", "outstanding_requests", ["vocals_key"])
