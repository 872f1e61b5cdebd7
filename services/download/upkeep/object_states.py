"""States of objects: since when they are missing, damaged or unneeded, and when their digest was last compared."""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Literal

from prometheus_client import Gauge
from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.common.storage.database import Database
from services.download.tables import ObjectState

Column = Literal["missing_since", "damaged_since", "unneeded_since", "check_time"]
BATCH = 500

MISSING = Gauge("stemtube_storage_missing_objects", "Objects that records need and that are not in the store.")
DAMAGED = Gauge("stemtube_storage_damaged_objects", "Originals whose bytes do not have the digest in their key.")


class ObjectStates:
    """Reads and changes the table of object states.

    Args:
        database: the library's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> dict[str, ObjectState]:
        """All states by key."""
        async with self._database.read() as session:
            return {state.key: state for state in await session.scalars(select(ObjectState))}

    async def get(self, key: str) -> ObjectState | None:
        """The state of an object; None if it has none."""
        async with self._database.read() as session:
            return await session.get(ObjectState, key)

    async def note(self, column: Column, keys: Iterable[str], moment: datetime) -> None:
        """Sets a time of these objects, unless it is set already."""
        for some in _batches(keys):
            async with self._database.write(lock="object states") as session:
                await _add_rows(session, some)
                unset = getattr(ObjectState, column).is_(None)
                await session.execute(
                    update(ObjectState).where(ObjectState.key.in_(some), unset).values({column: moment})
                )

    async def clear(self, column: Column, keys: Iterable[str]) -> None:
        """Removes a time of these objects."""
        for some in _batches(keys):
            async with self._database.write(lock="object states") as session:
                await session.execute(update(ObjectState).where(ObjectState.key.in_(some)).values({column: None}))

    async def checked(self, key: str, moment: datetime, *, damaged: bool) -> None:
        """Stores the result of comparing an object with its digest."""
        async with self._database.write(lock="object states") as session:
            await _add_rows(session, [key])
            since = func.coalesce(ObjectState.damaged_since, moment) if damaged else None
            await session.execute(
                update(ObjectState).where(ObjectState.key == key).values(check_time=moment, damaged_since=since)
            )

    async def forget(self, keys: Iterable[str]) -> None:
        """Deletes the states of these objects."""
        for some in _batches(keys):
            async with self._database.write(lock="object states") as session:
                await session.execute(delete(ObjectState).where(ObjectState.key.in_(some)))

    async def measure(self) -> None:
        """Updates the metrics of missing and damaged objects."""
        async with self._database.read() as session:
            counts = select(func.count(ObjectState.missing_since), func.count(ObjectState.damaged_since))
            missing, damaged = (await session.execute(counts)).one()
        MISSING.set(missing)
        DAMAGED.set(damaged)


async def faults_of(session: AsyncSession, keys: Collection[str]) -> dict[str, ObjectState]:
    """The states of those objects that are missing or damaged, by key."""
    faulty = or_(ObjectState.missing_since.is_not(None), ObjectState.damaged_since.is_not(None))
    found: dict[str, ObjectState] = {}
    for some in _batches(keys):
        states = await session.scalars(select(ObjectState).where(ObjectState.key.in_(some), faulty))
        found |= {state.key: state for state in states}
    return found


async def _add_rows(session: AsyncSession, keys: list[str]) -> None:
    there = set(await session.scalars(select(ObjectState.key).where(ObjectState.key.in_(keys))))
    session.add_all(ObjectState(key=key) for key in keys if key not in there)
    await session.flush()


def _batches(keys: Iterable[str]) -> Iterable[list[str]]:
    ordered = sorted(set(keys))
    return (ordered[first : first + BATCH] for first in range(0, len(ordered), BATCH))
