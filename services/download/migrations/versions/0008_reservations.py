"""Creates reservations of room in quotas, and counts pictures in quotas."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "reservations",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("user_id", sa.String(100), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("growing", sa.Boolean, nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expire_time", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_reservations"),
    )
    op.create_index("ix_reservations_user_id", "reservations", ["user_id"])
    op.create_index("ix_reservations_expire_time", "reservations", ["expire_time"])
    # Unfinished uploads get a reservation.
    op.execute(
        "INSERT INTO reservations (id, user_id, size_bytes, growing, create_time, expire_time) "
        "SELECT id, user_id, size_bytes, false, expire_time, expire_time FROM uploads WHERE track_id = ''"
    )
    # Tracks with a picture are measured again.
    op.execute("UPDATE tracks SET size_bytes = NULL WHERE cover_key != ''")
