"""Jobs that are queued but may not start yet: until their next attempt, or until others of their user have ended."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("job", sa.Column("retries", sa.Integer, nullable=False, server_default="0"))
    op.add_column("job", sa.Column("not_before", sa.Float))
    op.add_column("job", sa.Column("retry_error", sa.JSON))
    op.add_column("job", sa.Column("held", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_index("job_not_before", "job", ["not_before"])
    op.create_index("job_held", "job", ["held", "user", "turn"])
