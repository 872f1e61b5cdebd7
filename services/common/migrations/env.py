"""Where Alembic enters: `services.common.database.migrate` runs this for the job tables of each service's database."""

from services.common.database import run_migrations
from services.common.job_tables import metadata

run_migrations(metadata)
