"""Steps in a table of our own. Earlier versions kept them, and the order of the queue, in tables of DBOS.

The table of jobs alone tells which jobs wait, and in what order. The steps of unfinished jobs are copied. The tables
of DBOS stay, and nothing reads them any more.
"""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

TRANSIENT = (4, 10, 14)
"""Codes of transient errors. The earliest versions kept them as outcomes; such steps must run again."""


def upgrade() -> None:
    step = op.create_table(
        "job_step",
        sa.Column("job_id", sa.String(100), sa.ForeignKey("job.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("name", sa.String(40), primary_key=True),
        sa.Column("outcome", sa.JSON, nullable=False),
    )
    op.create_index("job_next", "job", ["state", "held", "turn", "created_at"])
    if steps := _kept_by_dbos(op.get_bind()):
        op.bulk_insert(step, steps)


def _kept_by_dbos(connection: sa.Connection) -> list[dict[str, Any]]:
    schema = None if connection.dialect.name == "sqlite" else "dbos"
    if not sa.inspect(connection).has_table("operation_outputs", schema=schema):
        return []
    names = ("workflow_uuid", "function_id", "function_name", "output")
    kept = sa.table("operation_outputs", *map(sa.column, names), schema=schema)
    job = sa.table("job", sa.column("id"), sa.column("state"))
    query = (
        sa.select(kept.c.workflow_uuid, kept.c.function_name, kept.c.output)
        .join(job, job.c.id == kept.c.workflow_uuid)
        .where(job.c.state.in_(("queued", "running")), kept.c.output.is_not(None))
    )
    found = {}
    for row in connection.execute(query.order_by(kept.c.function_id)):
        outcome = json.loads(row.output)
        if outcome.get("error", {}).get("code") not in TRANSIENT:
            found[row.workflow_uuid, row.function_name] = outcome
    return [{"job_id": job_id, "name": name, "outcome": outcome} for (job_id, name), outcome in found.items()]
