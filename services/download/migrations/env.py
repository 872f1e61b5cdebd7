"""Where Alembic enters: `services.common.database.migrate` runs this."""

from services.common.database import run_migrations
from services.download.tables import Base

run_migrations(Base.metadata)
