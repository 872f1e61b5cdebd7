"""Alembic's entry point: `services.common.storage.database.migrate` runs it for the job tables of each service."""

from services.common.jobs.tables import metadata
from services.common.storage.database import run_migrations

run_migrations(metadata)
