"""Differences between a database's schema and the code's."""

from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData

from services.common.storage.database import Database


async def differences(database: Database, metadata: MetaData) -> list[Any]:
    """The changes that Alembic would make, except for tables that the code does not have."""

    def is_known(_object: Any, name: str | None, kind: str, reflected: bool, _other: Any) -> bool:
        return kind != "table" or not reflected or name in metadata.tables

    async with database.engine.connect() as connection:
        return await connection.run_sync(
            lambda sync: compare_metadata(
                MigrationContext.configure(sync, opts={"include_object": is_known, "compare_type": True}), metadata
            )
        )
