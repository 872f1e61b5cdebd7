"""Jobs, requests, outputs. Earlier versions created these tables without migrations; existing ones are kept."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "job",
        sa.Column("id", sa.String(100), primary_key=True),
        sa.Column("key", sa.String(100), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("user", sa.String(100), nullable=False),
        sa.Column("subject", sa.String(200), nullable=False),
        sa.Column("payload", sa.JSON, nullable=False),
        sa.Column("turn", sa.Integer, nullable=False),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("stage", sa.String(40), nullable=False, server_default=""),
        sa.Column("fraction", sa.Float, nullable=False, server_default="0"),
        sa.Column("eta_seconds", sa.Float),
        sa.Column("detail", sa.JSON, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("deaths", sa.Integer, nullable=False, server_default="0"),
        sa.Column("lease", sa.String(40), nullable=False, server_default=""),
        sa.Column("beat_at", sa.Float),
        sa.Column("result", sa.JSON),
        sa.Column("error", sa.JSON),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("started_at", sa.Float),
        sa.Column("ended_at", sa.Float),
        sa.Column("changed_at", sa.Float, nullable=False),
        sa.Column("version", sa.Integer, nullable=False, server_default="1"),
        sa.UniqueConstraint("key", "generation"),
        if_not_exists=True,
    )
    op.create_index("ix_job_changed_at", "job", ["changed_at"], if_not_exists=True)
    op.create_index("job_user_created", "job", ["user", "created_at"], if_not_exists=True)
    op.create_index("job_state", "job", ["state", "beat_at"], if_not_exists=True)
    op.create_index("job_turn", "job", ["turn"], if_not_exists=True)
    op.create_index("job_user_turn", "job", ["user", "turn"], if_not_exists=True)
    op.create_table(
        "job_request",
        sa.Column("request_id", sa.String(100), primary_key=True),
        sa.Column("job_id", sa.String(100), sa.ForeignKey("job.id", ondelete="CASCADE")),
        sa.Column("user", sa.String(100), nullable=False),
        sa.Column("withdrawn", sa.Boolean, nullable=False, server_default=sa.false()),
        if_not_exists=True,
    )
    op.create_index("ix_job_request_job_id", "job_request", ["job_id"], if_not_exists=True)
    op.create_table(
        "job_output",
        sa.Column("job_id", sa.String(100), sa.ForeignKey("job.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("name", sa.String(40), primary_key=True),
        sa.Column("content", sa.JSON, nullable=False),
        if_not_exists=True,
    )
