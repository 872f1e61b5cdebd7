"""Queued jobs that may not start yet: until their next attempt is due, or until others of their user have ended.

The engine hands such a job out like any other. The worker leaves it alone (`hold`), and resumes it once it may start
(`take_due`, `admit`). The table keeps both marks, so they survive every process. Each function here runs within a
transaction of its caller.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from services.common.jobs.records import BATCH, INTERACTIVE
from services.common.jobs.tables import LANE_TURNS, job_table

AT_ONCE = 500
LANES = (INTERACTIVE, BATCH)

Claimed = sa.Select[tuple[str, int]]
"""`id` of the jobs that the engine holds to be running, and the `moment` at which it last touched each."""
Claim = tuple[int, int]
"""The version of such a job, and that moment."""

READY = sa.and_(job_table.c.state == "queued", job_table.c.held.is_(False), job_table.c.not_before.is_(None))
"""Jobs that start when it is their turn."""


def is_due(now: sa.ColumnElement[float], longest_seconds: float) -> sa.ColumnElement[bool]:
    """Jobs for whose next attempt it is time.

    Args:
        now: the database's time of day.
        longest_seconds: no job waits longer than this; where one seems to, the clock has gone back.
    """
    return sa.or_(job_table.c.not_before <= now, job_table.c.not_before > now + longest_seconds)


def lane_of(turn: int) -> int:
    """`INTERACTIVE` or `BATCH`."""
    return int(turn >= LANE_TURNS)


def lock_user(connection: Connection, user: str) -> None:
    """Until the transaction ends nobody else submits, starts or admits jobs of this user."""
    if connection.dialect.name != "sqlite":  # where a transaction that writes locks out all others
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(user))))


def _in_lane(user: str, lane: int) -> sa.ColumnElement[bool]:
    first = lane * LANE_TURNS
    return sa.and_(job_table.c.user == user, job_table.c.turn.between(first, first + LANE_TURNS - 1))


def _room(connection: Connection, user: str, lane: int, at_once: int) -> int:
    running = sa.select(sa.func.count()).where(job_table.c.state == "running", _in_lane(user, lane))
    return at_once - int(connection.execute(running).scalar_one())


def _change(now: sa.ColumnElement[float]) -> sa.Update:
    return sa.update(job_table).values(changed_at=now, version=job_table.c.version + 1)


def hold(connection: Connection, job_id: str, at_once: int, now: sa.ColumnElement[float]) -> bool:
    """Holds a queued job back if its user has `at_once` jobs of its lane running already."""
    columns = (job_table.c.user, job_table.c.turn, job_table.c.state)
    user = connection.execute(sa.select(job_table.c.user).where(job_table.c.id == job_id)).scalar()
    if user is None:
        return False
    lock_user(connection, user)
    job = connection.execute(sa.select(*columns).where(job_table.c.id == job_id)).one()
    if job.state != "queued" or _room(connection, user, lane_of(job.turn), at_once) > 0:
        return False
    connection.execute(_change(now).where(job_table.c.id == job_id).values(held=True))
    return True


def admit(connection: Connection, user: str, at_once: int, now: sa.ColumnElement[float]) -> list[str]:
    """Ids of a user's jobs that were held back and may start now; the caller resumes them."""
    lock_user(connection, user)
    admitted: list[str] = []
    for lane in LANES:
        held = sa.and_(job_table.c.held.is_(True), job_table.c.state == "queued", _in_lane(user, lane))
        first = sa.select(job_table.c.id).where(held).order_by(job_table.c.turn, job_table.c.created_at)
        room = _room(connection, user, lane, at_once)
        if room > 0:
            admitted += connection.execute(first.limit(room)).scalars()
    for ids in _chunks(admitted):
        connection.execute(_change(now).where(job_table.c.id.in_(ids)).values(held=False))
    return admitted


def users_held_back(connection: Connection) -> list[str]:
    """Users who have jobs that were held back."""
    held = sa.and_(job_table.c.held.is_(True), job_table.c.state == "queued")
    return list(connection.execute(sa.select(job_table.c.user).where(held).distinct()).scalars())


def take_due(connection: Connection, now: sa.ColumnElement[float], longest_seconds: float) -> list[str]:
    """Ids of jobs whose next attempt is due (see `is_due`), each for one caller, which resumes them."""
    due = sa.and_(is_due(now, longest_seconds), job_table.c.state == "queued")
    ids = connection.execute(sa.select(job_table.c.id).where(due).limit(AT_ONCE)).scalars().all()
    if not ids:
        return []
    taken = _change(now).where(job_table.c.id.in_(ids), due).values(not_before=None).returning(job_table.c.id)
    return list(connection.execute(taken).scalars())


def forgotten(connection: Connection, claimed: Claimed) -> dict[str, Claim]:
    """Jobs that may start, but that the engine holds to be running, by id.

    Most are about to begin. If one stays as it is, its worker died before it began it.
    """
    taken = claimed.subquery()
    query = sa.select(job_table.c.id, job_table.c.version, taken.c.moment).join(taken, job_table.c.id == taken.c.id)
    return {row.id: (row.version, row.moment) for row in connection.execute(query.where(READY).limit(AT_ONCE))}


def places(connection: Connection) -> dict[str, int]:
    """The places of all queued jobs, 1 for the next to start.

    Of jobs that are held back those of the same user alone are before others of that user; a job that waits for its
    next attempt has no place.
    """
    columns = (job_table.c.id, job_table.c.user, job_table.c.turn, job_table.c.held)
    waiting = sa.select(*columns).where(job_table.c.state == "queued", job_table.c.not_before.is_(None))
    ready, held, found = 0, dict[tuple[str, int], int](), dict[str, int]()
    for row in connection.execute(waiting.order_by(job_table.c.turn, job_table.c.created_at)):
        if row.held:
            key = (row.user, lane_of(row.turn))
            held[key] = held.get(key, 0) + 1
            found[row.id] = ready + held[key]
        else:
            ready += 1
            found[row.id] = ready
    return found


def place(connection: Connection, job_id: str) -> int:
    """The place of one job, as `places` has it; 0 if it has none."""
    columns = [job_table.c[name] for name in ("user", "turn", "created_at", "held", "not_before", "state")]
    found = connection.execute(sa.select(*columns).where(job_table.c.id == job_id))
    job: RowMapping | None = found.mappings().one_or_none()
    if job is None or job["state"] != "queued" or job["not_before"] is not None:
        return 0
    mine = sa.tuple_(sa.literal(job["turn"]), sa.literal(job["created_at"]))
    earlier = sa.tuple_(job_table.c.turn, job_table.c.created_at) < mine
    before = READY
    if job["held"]:
        own = sa.and_(
            job_table.c.state == "queued", job_table.c.held.is_(True), _in_lane(job["user"], lane_of(job["turn"]))
        )
        before = sa.or_(READY, own)
    query = sa.select(sa.func.count()).select_from(job_table).where(before, earlier)
    return int(connection.execute(query).scalar_one()) + 1


def _chunks(ids: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (ids[start : start + AT_ONCE] for start in range(0, len(ids), AT_ONCE))


def beat(
    connection: Connection, leases: Iterable[tuple[str, str]], now: sa.ColumnElement[float]
) -> set[tuple[str, str]]:
    """Shows that the holders of these (job id, lease) live; returns those that are still held."""
    held: set[tuple[str, str]] = set()
    for some in _chunks(sorted(leases)):
        owned = sa.and_(job_table.c.lease.in_([lease for _, lease in some]), job_table.c.state == "running")
        shown = sa.update(job_table).where(owned).values(beat_at=now).returning(job_table.c.id, job_table.c.lease)
        held.update((row.id, row.lease) for row in connection.execute(shown))
    return held
