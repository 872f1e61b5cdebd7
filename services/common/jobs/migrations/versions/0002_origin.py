"""The origin of a job (request, track and trace), for logs and traces."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("job", sa.Column("origin", sa.JSON))
