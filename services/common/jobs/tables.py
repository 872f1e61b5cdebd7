"""The tables of jobs; `services/common/jobs/migrations` creates them."""

import sqlalchemy as sa

LANE_TURNS = 1_000_000_000

metadata = sa.MetaData()

job_table = sa.Table(
    "job",
    metadata,
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
    sa.Column("device_faults", sa.Integer, nullable=False, server_default="0"),
    sa.Column("lease", sa.String(40), nullable=False, server_default=""),
    sa.Column("beat_at", sa.Float),
    sa.Column("result", sa.JSON),
    sa.Column("error", sa.JSON),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("started_at", sa.Float),
    sa.Column("ended_at", sa.Float),
    sa.Column("changed_at", sa.Float, nullable=False, index=True),
    sa.Column("version", sa.Integer, nullable=False, server_default="1"),
    sa.Column("origin", sa.JSON(none_as_null=True)),
    # Attempts after transient errors.
    sa.Column("retries", sa.Integer, nullable=False, server_default="0"),
    # When the next attempt is due, and why the last one ended; else null.
    sa.Column("not_before", sa.Float),
    sa.Column("retry_error", sa.JSON(none_as_null=True)),
    # Held back: the user has as many running jobs as allowed.
    sa.Column("held", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.UniqueConstraint("key", "generation"),
    sa.Index("job_user_created", "user", "created_at"),
    sa.Index("job_state", "state", "beat_at"),
    sa.Index("job_turn", "turn"),
    sa.Index("job_user_turn", "user", "turn"),
    sa.Index("job_not_before", "not_before"),
    sa.Index("job_held", "held", "user", "turn"),
    sa.Index("job_next", "state", "held", "turn", "created_at"),
)

request_table = sa.Table(
    "job_request",
    metadata,
    sa.Column("request_id", sa.String(100), primary_key=True),
    # None: claimed, or withdrawn before it came.
    sa.Column("job_id", sa.String(100), sa.ForeignKey("job.id", ondelete="CASCADE"), index=True),
    sa.Column("user", sa.String(100), nullable=False),
    sa.Column("withdrawn", sa.Boolean, nullable=False, server_default=sa.false()),
    # See `requests.request_digest`; None for requests of earlier versions.
    sa.Column("digest", sa.String(130)),
    # Open calls that claim the id.
    sa.Column("open_calls", sa.Integer, nullable=False, server_default="0"),
    sa.Column("created_at", sa.Float),
)

output_table = sa.Table(
    "job_output",
    metadata,
    sa.Column("job_id", sa.String(100), sa.ForeignKey("job.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("content", sa.JSON, nullable=False),
)

step_table = sa.Table(
    "job_step",
    metadata,
    sa.Column("job_id", sa.String(100), sa.ForeignKey("job.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("name", sa.String(40), primary_key=True),
    # `{"result": …}` or `{"error": …}`.
    sa.Column("outcome", sa.JSON, nullable=False),
)
