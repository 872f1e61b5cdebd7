"""Where Alembic enters: `services.common.database.migrate` runs this."""

import services.download.lookups  # noqa: F401  # whose table is among the library's
from services.common.database import run_migrations
from services.download.store import Base

run_migrations(Base.metadata)
