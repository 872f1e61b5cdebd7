"""The tables of jobs are created by migrations, even if an earlier version has made them."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from google.protobuf.json_format import ParseDict
from sqlalchemy import text

from services.common.errors import PreconditionError
from services.common.jobs.context import JobContext
from services.common.jobs.errors import KeptError
from services.common.jobs.queue import JobQueue
from services.common.jobs.tables import job_table, metadata
from services.common.storage.database import Database, migrate
from stemtube.analysis.v1 import analysis_pb2
from stemtube.download.v1 import track_job_pb2
from stemtube.job.v1 import job_pb2
from tests.common.postgres import create_database
from tests.common.schema import differences

# The tables of versions before migrations.
FIRST_TABLES = """
CREATE TABLE job (
    id VARCHAR(100) NOT NULL, "key" VARCHAR(100) NOT NULL, generation INTEGER NOT NULL, kind VARCHAR(40) NOT NULL,
    "user" VARCHAR(100) NOT NULL, subject VARCHAR(200) NOT NULL, payload JSON NOT NULL, turn INTEGER NOT NULL,
    state VARCHAR(12) NOT NULL, stage VARCHAR(40) DEFAULT '' NOT NULL, fraction FLOAT DEFAULT '0' NOT NULL,
    eta_seconds FLOAT, detail JSON NOT NULL, attempts INTEGER DEFAULT '0' NOT NULL,
    deaths INTEGER DEFAULT '0' NOT NULL, lease VARCHAR(40) DEFAULT '' NOT NULL, beat_at FLOAT, result JSON, error JSON,
    created_at FLOAT NOT NULL, started_at FLOAT, ended_at FLOAT, changed_at FLOAT NOT NULL,
    version INTEGER DEFAULT '1' NOT NULL, PRIMARY KEY (id), UNIQUE ("key", generation)
);
CREATE INDEX ix_job_changed_at ON job (changed_at);
CREATE INDEX job_user_created ON job ("user", created_at);
CREATE INDEX job_state ON job (state, beat_at);
CREATE INDEX job_turn ON job (turn);
CREATE INDEX job_user_turn ON job ("user", turn);
CREATE TABLE job_request (
    request_id VARCHAR(100) NOT NULL, job_id VARCHAR(100), "user" VARCHAR(100) NOT NULL,
    withdrawn BOOLEAN DEFAULT false NOT NULL, PRIMARY KEY (request_id),
    FOREIGN KEY(job_id) REFERENCES job (id) ON DELETE CASCADE
);
CREATE INDEX ix_job_request_job_id ON job_request (job_id);
CREATE TABLE job_output (
    job_id VARCHAR(100) NOT NULL, name VARCHAR(40) NOT NULL, content JSON NOT NULL, PRIMARY KEY (job_id, name),
    FOREIGN KEY(job_id) REFERENCES job (id) ON DELETE CASCADE
);
INSERT INTO job (id, "key", generation, kind, "user", subject, payload, turn, state, detail, created_at, changed_at)
    VALUES ('j', 'k', 1, 'track', 'anna', 't', '{"plan": 1}', 1, 'queued', '{}', 1.5, 1.5);
INSERT INTO job_request (request_id, job_id, "user") VALUES ('r', 'j', 'anna')
"""

# Steps that versions before 0007 kept in the tables of DBOS: of an unfinished job, and of a removed one.
KEPT_BY_DBOS = """
CREATE TABLE {schema}operation_outputs (
    workflow_uuid TEXT NOT NULL, function_id INTEGER NOT NULL, function_name TEXT NOT NULL, output TEXT, error TEXT,
    PRIMARY KEY (workflow_uuid, function_id)
);
INSERT INTO {schema}operation_outputs VALUES
    ('j', 1, 'acquire', '{{"result":{{"audio_key":"a"}}}}', NULL),
    ('j', 2, 'mix', '{{"error":{{"code":3,"reason":"NOT_AUDIO","message":"No audio.","retryable":false}}}}', NULL),
    ('j', 3, 'names', '{{"error":{{"code":14,"reason":"AWAY","message":"It sleeps.","retryable":true}}}}', NULL),
    ('gone', 1, 'acquire', '{{"result":{{"audio_key":"b"}}}}', NULL)
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return create_database() if request.param == "postgresql" else f"sqlite:///{tmp_path}/jobs.sqlite"


async def run(url: str, script: str) -> None:
    async with Database(url) as database, database.write() as session:
        for statement in script.split(";"):
            await session.execute(text(statement.replace(":", r"\:")))


async def test_migrations_create_the_tables_of_the_code(url: str) -> None:
    await migrate(url, "services.common.jobs")
    async with Database(url) as database:
        assert await differences(database, metadata) == []


@pytest.mark.parametrize("tables", [9, 1], ids=["all of them", "cut off by a kill"])
async def test_tables_from_before_migrations_are_kept(url: str, tables: int) -> None:
    whole = tables == 9
    await run(url, FIRST_TABLES.strip() if whole else ";".join(FIRST_TABLES.strip().split(";")[:tables]))
    queue = JobQueue(url, "takeover-test")
    await queue.start()
    try:
        if whole:
            record = await queue.get("j")
            assert (record.user, record.payload, record.state) == ("anna", {"plan": 1}, "queued")
    finally:
        await queue.close()
    async with Database(url) as database:
        assert await differences(database, metadata) == []


async def test_steps_kept_by_dbos_are_repeated_only_after_transient_errors(url: str) -> None:
    outcomes: dict[str, object] = {}

    async def handle(job: JobContext) -> dict[str, Any]:
        async def work() -> dict[str, Any]:
            return {"run": "again"}

        for name in ("acquire", "mix", "names"):
            try:
                outcomes[name] = await job.step(name, work)
            except KeptError as error:
                outcomes[name] = error.reason
        return {}

    await run(url, FIRST_TABLES.strip())
    is_postgresql = url.startswith("postgresql")
    if is_postgresql:
        await run(url, "CREATE SCHEMA dbos")
    await run(url, KEPT_BY_DBOS.strip().format(schema="dbos." if is_postgresql else ""))
    queue = JobQueue(url, "takeover-test", handlers={"track": handle}, slots=1)
    await queue.start()
    try:
        async with asyncio.timeout(30):
            assert [record async for record in queue.watch("j")][-1].state == "succeeded"
    finally:
        await queue.close()
    assert outcomes == {"acquire": {"audio_key": "a"}, "mix": "NOT_AUDIO", "names": {"run": "again"}}


TRACK_DETAIL: dict[str, Any] = {
    "parts": {
        "acquire": {"state": "succeeded", "progress": 1.0, "stage": "checking", "eta_seconds": None, "error": None},
        "separation": {
            "state": "running",
            "progress": 0.5,
            "stage": "separating",
            "eta_seconds": 2.5,
            "queue_position": 0,
            "error": None,
            "live": {"stems": ["vocals"], "sample_rate_hz": 44_100},
        },
        "key": {"state": "failed", "progress": 0.0, "eta_seconds": None, "error": {"code": 9, "reason": "GONE"}},
    }
}
TIMES = {"created_at": 1.5, "changed_at": 1.5}
ANALYSIS_PARTS = {"parts": {"key": {"state": "succeeded", "progress": 1.0, "error": None}}}


async def test_progress_of_earlier_versions_is_converted_to_the_contracts_json(url: str) -> None:
    await run(url, FIRST_TABLES)
    rows: list[dict[str, Any]] = [
        {"id": "t", "kind": "track", "detail": TRACK_DETAIL, "result": {}},
        {"id": "a", "kind": "analysis", "detail": ANALYSIS_PARTS, "result": ANALYSIS_PARTS},
        {"id": "n", "kind": "analysis", "detail": {}, "result": None},
    ]
    facts: dict[str, Any] = {
        "generation": 1,
        "user": "anna",
        "subject": "",
        "payload": {},
        "turn": 1,
        "state": "running",
    }
    first_table = sa.table(
        "job", *(sa.column(name, job_table.c[name].type) for name in {*rows[0], *facts, *TIMES, "key"})
    )
    async with Database(url) as database, database.write() as session:
        for row in rows:
            await session.execute(sa.insert(first_table).values(**row, **facts, **TIMES, key=row["id"]))
    await migrate(url, "services.common.jobs")
    async with Database(url) as database, database.read() as session:
        kept = {row.id: row for row in await session.execute(sa.select(job_table))}
    track = ParseDict({"parts": kept["t"].detail["parts"]}, track_job_pb2.TrackJob())
    assert [(part.name, part.state, part.progress) for part in track.parts] == [
        ("acquire", job_pb2.JOB_STATE_SUCCEEDED, 1.0),
        ("separation", job_pb2.JOB_STATE_RUNNING, 0.5),
        ("key", job_pb2.JOB_STATE_FAILED, 0.0),
    ]
    assert (track.parts[1].eta.ToMilliseconds(), track.parts[1].stage) == (2500, "separating")
    assert track.parts[2].error == job_pb2.JobError(code=9, reason="GONE")
    for parts in (kept["a"].detail, kept["a"].result):
        (status,) = ParseDict(parts, analysis_pb2.Analysis()).parts
        assert (status.part, status.state) == (analysis_pb2.PART_KEY, job_pb2.JOB_STATE_SUCCEEDED)
    assert (kept["t"].result, kept["n"].detail, kept["n"].result) == ({}, {}, None)


async def test_jobs_of_a_newer_version_are_left_alone(url: str) -> None:
    await migrate(url, "services.common.jobs")
    await run(url, "UPDATE jobs_schema_version SET version_num = '9999'")
    queue = JobQueue(url, "takeover-test")
    with pytest.raises(PreconditionError) as refusal:
        await queue.start()
    assert refusal.value.reason == "DATABASE_TOO_NEW"
