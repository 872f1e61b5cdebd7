"""Where Alembic enters: `services.common.database.migrate` runs this."""

from services.auth.tables import Base
from services.common.database import run_migrations

run_migrations(Base.metadata)
