"""Chooses the job that starts next.

A queued job may have to wait until its next attempt is due, or until other jobs of its user have ended (it is "held
back"). Both are columns of the table, so they survive restarts. Each function runs within its caller's transaction.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from services.common.jobs.records import BATCH, INTERACTIVE
from services.common.jobs.tables import LANE_TURNS, job_table

AT_ONCE = 500
LANES = (INTERACTIVE, BATCH)

READY = sa.and_(job_table.c.state == "queued", job_table.c.held.is_(False), job_table.c.not_before.is_(None))
"""Jobs that start when it is their turn."""


def ready_in_order(
    now: sa.ColumnElement[float], longest_delay_seconds: float, avoided: Collection[str] = ()
) -> sa.Select[tuple[str, str, int]]:
    """Selects id, user and turn of jobs that may start, in the order of their turns.

    Args:
        now: the database's time of day.
        longest_delay_seconds: the longest time that a job waits for its next attempt; a job that seems to wait longer
            may start, because the clock has gone back.
        avoided: ids of jobs to leave out.
    """
    not_before = job_table.c.not_before
    is_due = sa.or_(not_before.is_(None), not_before <= now, not_before > now + longest_delay_seconds)
    query = sa.select(job_table.c.id, job_table.c.user, job_table.c.turn)
    query = query.where(job_table.c.state == "queued", job_table.c.held.is_(False), is_due)
    if avoided:
        query = query.where(job_table.c.id.not_in(avoided))
    return query.order_by(job_table.c.turn, job_table.c.created_at)


def lane_of(turn: int) -> int:
    """`INTERACTIVE` or `BATCH`."""
    return int(turn >= LANE_TURNS)


def lock_user(connection: Connection, user: str) -> None:
    """Keeps other transactions from submitting, starting or admitting jobs of this user until this one ends."""
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


def next_job(
    connection: Connection, at_once: int, ready: sa.Select[tuple[str, str, int]], now: sa.ColumnElement[float]
) -> str | None:
    """Locks the job that starts next and returns its id; None if there is none.

    Args:
        connection: in a transaction that writes.
        at_once: how many jobs of one user may run at the same time in a lane; others are held back until `admit`.
            0: any number.
        ready: jobs that may start, see `ready_in_order`.
        now: the database's time of day.
    """
    first = ready.limit(1).with_for_update(skip_locked=True)
    while job := connection.execute(first).first():
        job_id: str = job.id
        if not at_once:
            return job_id
        # Locked after the job; that cannot deadlock, since no holder of a user's lock waits for a job that may start.
        lock_user(connection, job.user)
        if _room(connection, job.user, lane_of(job.turn), at_once) > 0:
            return job_id
        _hold_back(connection, ready.where(_in_lane(job.user, lane_of(job.turn))), now)
    return None


def _hold_back(connection: Connection, ready: sa.Select[tuple[str, str, int]], now: sa.ColumnElement[float]) -> None:
    """Holds jobs back, except those that other workers are about to take."""
    ids = ready.with_for_update(skip_locked=True).with_only_columns(job_table.c.id)
    connection.execute(_change(now).where(job_table.c.id.in_(ids)).values(held=True, not_before=None))


def admit(connection: Connection, user: str, at_once: int, now: sa.ColumnElement[float]) -> None:
    """Lets held-back jobs of a user start, as many as there is room for."""
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


def users_held_back(connection: Connection) -> list[str]:
    """Users who have jobs that were held back."""
    held = sa.and_(job_table.c.held.is_(True), job_table.c.state == "queued")
    return list(connection.execute(sa.select(job_table.c.user).where(held).distinct()).scalars())


def places(connection: Connection, *, first: int = 0, user: str | None = None) -> dict[str, int]:
    """The places of queued jobs, 1 for the next to start.

    Of jobs that are held back those of the same user alone are before others of that user; a job that waits for its
    next attempt has no place.

    Args:
        connection: of a database that only reads.
        first: no places after this one; 0: all.
        user: whose jobs; None: of all users.
    """
    table = job_table.c
    waits = sa.and_(table.state == "queued", table.not_before.is_(None))
    if first:
        ready = sa.select(table.turn).where(READY).order_by(table.turn, table.created_at)
        last = connection.execute(ready.offset(first - 1).limit(1)).scalar()
        waits = sa.and_(waits, table.turn <= last) if last is not None else waits
    order = (table.turn, table.created_at)
    before = sa.func.sum(sa.case((table.held, 0), else_=1)).over(order_by=order)
    held = sa.func.rank().over(partition_by=(table.held, table.user, table.turn >= LANE_TURNS), order_by=order)
    place = sa.case((table.held, before + held), else_=sa.func.rank().over(partition_by=table.held, order_by=order))
    queue = sa.select(table.id, table.user, place.label("place")).where(waits).subquery().c
    wanted = sa.select(queue.id, queue.place)
    if first:
        wanted = wanted.where(queue.place <= first)
    if user is not None:
        wanted = wanted.where(queue.user == user)
    return {row.id: int(row.place) for row in connection.execute(wanted)}


def place(connection: Connection, job_id: str) -> int:
    """The place of one job, as in `places`; 0 if it has none."""
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
    """Renews leases, given as (job id, lease); returns those that are still held."""
    held: set[tuple[str, str]] = set()
    for some in _chunks(sorted(leases)):
        owned = sa.and_(job_table.c.lease.in_([lease for _, lease in some]), job_table.c.state == "running")
        shown = sa.update(job_table).where(owned).values(beat_at=now).returning(job_table.c.id, job_table.c.lease)
        held.update((row.id, row.lease) for row in connection.execute(shown))
    return held
