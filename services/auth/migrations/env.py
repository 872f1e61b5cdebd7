"""Alembic's entry point: `services.common.storage.database.migrate` runs it."""

from services.auth.tables import Base
from services.common.storage.database import run_migrations

run_migrations(Base.metadata)
