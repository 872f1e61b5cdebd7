"""One-time passwords, disabled accounts, clients of sessions, API tokens, invitations, failed sign-ins."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    with op.batch_alter_table("users") as users:
        users.add_column(sa.Column("email", sa.String(254), nullable=False, server_default=""))
        users.add_column(sa.Column("must_change_password", sa.Boolean, nullable=False, server_default=sa.false()))
        users.add_column(sa.Column("password_expire_time", MOMENT))
        users.add_column(sa.Column("disabled", sa.Boolean, nullable=False, server_default=sa.false()))
    with op.batch_alter_table("sessions") as sessions:
        sessions.add_column(sa.Column("last_use_time", MOMENT))
        sessions.add_column(sa.Column("address", sa.String(45), nullable=False, server_default=""))
        sessions.add_column(sa.Column("client", sa.String(200), nullable=False, server_default=""))
        sessions.create_index("ix_sessions_end_time", ["end_time"])
    op.create_table(
        "api_tokens",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("user_id", sa.String(32), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("scopes", sa.String(64), nullable=False),
        sa.Column("create_time", MOMENT, nullable=False),
        sa.Column("expire_time", MOMENT, nullable=False),
        sa.Column("last_use_time", MOMENT),
        sa.Column("end_time", MOMENT),
        sa.PrimaryKeyConstraint("id", name="pk_api_tokens"),
        sa.UniqueConstraint("digest", name="uq_api_tokens_digest"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_api_tokens_user_id_users", ondelete="CASCADE"),
    )
    op.create_index("ix_api_tokens_user_id", "api_tokens", ["user_id"])
    op.create_index("ix_api_tokens_end_time", "api_tokens", ["end_time"])
    op.create_table(
        "invitations",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("uses_left", sa.Integer, nullable=False),
        sa.Column("create_time", MOMENT, nullable=False),
        sa.Column("expire_time", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_invitations"),
        sa.UniqueConstraint("digest", name="uq_invitations_digest"),
    )
    op.create_table(
        "attempts",
        sa.Column("key", sa.LargeBinary(32), nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("last_time", MOMENT, nullable=False),
        sa.Column("allow_time", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_attempts"),
    )
    op.create_index("ix_attempts_last_time", "attempts", ["last_time"])
