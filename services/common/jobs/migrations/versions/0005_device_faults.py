"""A count of the devices that failed at a job, so that a song that fits on none fails in the end."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("job", sa.Column("device_faults", sa.Integer, nullable=False, server_default="0"))
