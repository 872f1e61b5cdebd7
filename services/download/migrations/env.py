"""Alembic's entry point, which `services.common.storage.database.migrate` runs."""

from services.common.storage.database import run_migrations
from services.download.tables import Base

run_migrations(Base.metadata)
