"""Creates the identity of the object store, states of objects, and outstanding requests."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "store_identity",
        sa.Column("id", sa.SmallInteger, nullable=False),
        sa.Column("store_id", sa.String(32), nullable=False),
        sa.Column("confirmed", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_store_identity"),
    )
    op.create_table(
        "object_states",
        sa.Column("key", sa.String(220), nullable=False),
        sa.Column("missing_since", sa.DateTime(timezone=True)),
        sa.Column("damaged_since", sa.DateTime(timezone=True)),
        sa.Column("unneeded_since", sa.DateTime(timezone=True)),
        sa.Column("check_time", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("key", name="pk_object_states"),
    )
    op.create_table(
        "outstanding_requests",
        sa.Column("job_id", sa.String(100), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name="pk_outstanding_requests"),
    )
