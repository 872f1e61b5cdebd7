"""A library in a directory."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.common.storage.database import Database, migrate
from services.common.storage.objects import ObjectStore
from services.download.upkeep.store_identity import GuardedStore
from tests.download.upkeep.disk_library import DiskLibrary


@pytest.fixture
async def disk_library(tmp_path: Path) -> AsyncIterator[DiskLibrary]:
    url = f"sqlite:///{tmp_path}/library.sqlite"
    await migrate(url, "services.download")
    root = tmp_path / "objects"
    async with Database(url) as database:
        yield DiskLibrary(database, GuardedStore(ObjectStore.from_url(str(root)), database), root)
