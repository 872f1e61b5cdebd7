"""The tables of jobs come about by migrations, also where an earlier version has made them."""

from pathlib import Path

import pytest
from sqlalchemy import text

from services.common.errors import PreconditionError
from services.common.jobs.queue import JobQueue
from services.common.jobs.tables import metadata
from services.common.storage.database import Database, migrate
from tests.common.postgres import create_database
from tests.common.schema import differences

# What versions before the migrations created.
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


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return create_database() if request.param == "postgresql" else f"sqlite:///{tmp_path}/jobs.sqlite"


async def run(url: str, script: str) -> None:
    async with Database(url) as database, database.write() as session:
        for statement in script.split(";"):
            await session.execute(text(statement.replace(":", r"\:")))


async def test_migrations_lead_to_the_tables_of_the_code(url: str) -> None:
    await migrate(url, "services.common.jobs")
    async with Database(url) as database:
        assert await differences(database, metadata) == []


@pytest.mark.parametrize("tables", [9, 1], ids=["all of them", "cut off by a kill"])
async def test_tables_of_versions_before_migrations_are_taken_over(url: str, tables: int) -> None:
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


async def test_jobs_of_a_newer_version_are_left_alone(url: str) -> None:
    await migrate(url, "services.common.jobs")
    await run(url, "UPDATE jobs_schema_version SET version_num = '9999'")
    queue = JobQueue(url, "takeover-test")
    with pytest.raises(PreconditionError) as refusal:
        await queue.start()
    assert refusal.value.reason == "DATABASE_TOO_NEW"
