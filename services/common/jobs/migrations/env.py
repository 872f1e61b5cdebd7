"""Where Alembic enters: `services.common.storage.database.migrate` runs this for the job tables of each service's database."""

from services.common.jobs.tables import metadata
from services.common.storage.database import run_migrations

run_migrations(metadata)
