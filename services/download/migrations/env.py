"""Where Alembic enters: `services.common.storage.database.migrate` runs this."""

from services.common.storage.database import run_migrations
from services.download.tables import Base

run_migrations(Base.metadata)
