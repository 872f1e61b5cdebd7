"""Progress of the jobs of tracks and analyses as the contracts' JSON: the parts of `TrackJob` and of `Analysis`.

It rewrites rows, so processes of earlier versions must have ended: they cannot read the new form.
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

BATCH = 200
job = sa.table(
    "job",
    sa.column("id", sa.String),
    sa.column("kind", sa.String),
    sa.column("detail", sa.JSON),
    sa.column("result", sa.JSON),
)


def upgrade() -> None:
    connection = op.get_bind()
    ids = list(connection.scalars(sa.select(job.c.id).where(job.c.kind.in_(("track", "analysis")))))
    for start in range(0, len(ids), BATCH):
        for row in connection.execute(sa.select(job).where(job.c.id.in_(ids[start : start + BATCH]))).all():
            convert = _track_part if row.kind == "track" else _analysis_part
            changed = {
                name: kept | {"parts": [convert(part, shown) for part, shown in kept["parts"].items()]}
                for name, kept in (("detail", row.detail), ("result", row.result))
                if kept and "parts" in kept
            }
            if changed:
                connection.execute(sa.update(job).where(job.c.id == row.id).values(changed))


def _track_part(name: str, shown: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves out which stems can be heard already: the worker reports that again."""
    part = {"name": name, **_common(shown)}
    if shown["state"] not in ("queued", "running"):
        return part
    if shown.get("eta_seconds") is not None:
        part["eta"] = f"{max(shown['eta_seconds'], 0.0):.3f}s"
    return part | {
        "stage": shown.get("stage", ""),
        "queue_position": shown.get("queue_position", 0),
        "bytes_per_second": shown.get("bytes_per_second") or 0.0,
    }


def _analysis_part(name: str, shown: Mapping[str, Any]) -> dict[str, Any]:
    return {"part": f"PART_{name.upper()}", **_common(shown)}


def _common(shown: Mapping[str, Any]) -> dict[str, Any]:
    error = {"error": shown["error"]} if shown.get("error") else {}
    return {"state": f"JOB_STATE_{shown['state'].upper()}", "progress": shown["progress"], **error}
