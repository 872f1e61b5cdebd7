"""A library in a directory of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.common.storage.database import Database, migrate
from services.common.storage.objects import ObjectStore
from services.download.upkeep.store_identity import GuardedStore
from tests.download.upkeep.shop import Shop


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    url = f"sqlite:///{tmp_path}/library.sqlite"
    await migrate(url, "services.download")
    root = tmp_path / "objects"
    async with Database(url) as database:
        yield Shop(database, GuardedStore(ObjectStore.from_url(str(root)), database), root)
