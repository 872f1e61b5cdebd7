"""Where Alembic enters: `services.common.storage.database.migrate` runs this for the job tables of each service's database."""

from services.common.storage.database import run_migrations
from services.common.jobs.tables import metadata

run_migrations(metadata)
