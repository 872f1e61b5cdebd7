"""Submits and reads jobs; `leases.py` has the statements of workers.

The table is in the queue's own database (SQLite or PostgreSQL) and is created by migrations
(`services/common/jobs/migrations`).
"""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import IntegrityError

from services.common.errors import AlreadyExistsError, PreconditionError
from services.common.jobs import waiting
from services.common.jobs.database import JobDatabase, only_reads, read_job
from services.common.jobs.errors import too_many_jobs
from services.common.jobs.records import COLUMNS, Backlog, JobRecord
from services.common.jobs.states import UNFINISHED, State
from services.common.jobs.tables import LANE_TURNS, job_table, output_table, request_table, step_table

WATCH_OVERLAP_SECONDS = 2.0
AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A request for a job.

    Attributes:
        key: equal for equal work.
        request_id: the same id gives the same job.
        kind: of the job; it selects the handler.
        user: the job's owner.
        subject: an id to find the job by.
        payload: JSON for the handler.
        lane: `INTERACTIVE` or `BATCH`.
        outdated: id of a job that succeeded but whose objects are gone; it is not joined.
        origin: the request context, kept with a new job.
        digest: of what the request says (`requests.py`); empty: it is not compared.
        most_unfinished: jobs that the user may have; 0: any number.
    """

    key: str
    request_id: str
    kind: str
    user: str
    subject: str
    payload: dict[str, Any]
    lane: int
    outdated: str
    origin: dict[str, str]
    digest: str = ""
    most_unfinished: int = 0


class JobStore:
    """Accepts and reads jobs; every method blocks and may be called from any thread.

    Args:
        database: of the queue.
    """

    def __init__(self, database: JobDatabase) -> None:
        self._database = database

    def submit(self, wanted: Submission) -> JobRecord:
        """Returns the job of a request: the one it already has, else an equal one, else a new one.

        Args:
            wanted: the request.

        Raises:
            PreconditionError: the request was withdrawn before it came (reason WITHDRAWN).
            AlreadyExistsError: another request came with its id (reason REQUEST_ID_REUSED).
            LimitExceededError: the user has too many unfinished jobs for a new one (reason TOO_MANY_JOBS).
        """
        while True:
            try:
                with self._database.engine.begin() as connection:
                    return self._submit(connection, wanted)
            except IntegrityError:
                continue  # another process has just inserted the same request or generation; now it can be seen

    def _submit(self, connection: Connection, wanted: Submission) -> JobRecord:
        known = sa.select(request_table).where(request_table.c.request_id == wanted.request_id).with_for_update()
        request = connection.execute(known).first()
        if request and (job_id := _known_job(request, wanted)) is not None:
            return read_job(connection, job_id)
        is_claimed = request is not None
        equal = sa.select(*COLUMNS, job_table.c.generation).where(job_table.c.key == wanted.key).with_for_update()
        latest = connection.execute(equal.order_by(job_table.c.generation.desc()).limit(1)).mappings().first()
        generation = 1
        if latest:
            row = dict(latest)
            generation = row.pop("generation") + 1
            record = JobRecord(**row)
            if not record.finished or (record.state == "succeeded" and record.id != wanted.outdated):
                self._add_request(connection, wanted, record.id, is_claimed)
                if record.state == "queued":
                    self._move_up(connection, record.id, wanted)
                return record
        job_id = self._insert(connection, wanted, generation)
        self._add_request(connection, wanted, job_id, is_claimed)
        return read_job(connection, job_id)

    def _insert(self, connection: Connection, wanted: Submission, generation: int) -> str:
        """Adds a job and returns its id."""
        # Random: objects are stored under the id, so it must not be used again when the job has been removed.
        job_id = f"{wanted.key}-{uuid.uuid4().hex[:12]}"
        # Else several submissions at once would get one turn, and together pass the limit.
        waiting.lock_user(connection, wanted.user)
        if wanted.most_unfinished and _unfinished_count(connection, wanted.user) >= wanted.most_unfinished:
            raise too_many_jobs(wanted.most_unfinished)
        values = {
            "id": job_id,
            "key": wanted.key,
            "generation": generation,
            "kind": wanted.kind,
            "user": wanted.user,
            "subject": wanted.subject,
            "payload": wanted.payload,
            "turn": self._next_turn(wanted.user, wanted.lane),
            "state": "queued",
            "detail": {},
            "created_at": self._database.now,
            "changed_at": self._database.now,
            "origin": wanted.origin,
        }
        connection.execute(sa.insert(job_table).values(values))
        return job_id

    def _move_up(self, connection: Connection, job_id: str, wanted: Submission) -> None:
        """Gives a queued job the turn that it would have as a job of this user, if that is earlier."""
        own = self._next_turn(wanted.user, wanted.lane)
        connection.execute(self._database.change(job_id).where(job_table.c.turn > own).values(turn=own))

    def _next_turn(self, user: str, lane: int) -> sa.ScalarSelect[int]:
        """The turn of a user's next job: after the user's other jobs, and after the last turn that has begun.

        Start-time fair queueing (Goyal, Vin, Cheng: SIGCOMM 1996) with jobs of equal size: the jobs of users alternate,
        however many jobs one user has queued.
        """
        own = sa.and_(job_table.c.user == user, job_table.c.state.in_(UNFINISHED))
        first = lane * LANE_TURNS
        query = sa.select(sa.func.coalesce(sa.func.max(job_table.c.turn), first) + 1)
        return query.where(
            job_table.c.turn.between(first, first + LANE_TURNS - 1), sa.or_(own, job_table.c.started_at.is_not(None))
        ).scalar_subquery()

    def _add_request(self, connection: Connection, wanted: Submission, job_id: str, is_claimed: bool) -> None:
        values = {
            "job_id": job_id,
            "user": wanted.user,
            "digest": wanted.digest or None,
            "created_at": self._database.now,
        }
        mine = request_table.c.request_id == wanted.request_id
        if is_claimed:
            connection.execute(sa.update(request_table).where(mine).values(values))
        else:
            connection.execute(sa.insert(request_table).values(request_id=wanted.request_id, **values))

    @only_reads
    def latest(self, key: str) -> JobRecord | None:
        """The newest job of a key."""
        query = sa.select(*COLUMNS).where(job_table.c.key == key).order_by(job_table.c.generation.desc()).limit(1)
        with self._database.reading.connect() as connection:
            row = connection.execute(query).mappings().first()
            return JobRecord(**row) if row else None

    @only_reads
    def get(self, job_id: str) -> JobRecord | None:
        """A job, with its place in the queue if it is queued."""
        with self._database.reading.connect() as connection:
            row = connection.execute(sa.select(*COLUMNS).where(job_table.c.id == job_id)).mappings().first()
            if row is None:
                return None
            position = waiting.place(connection, job_id) if row["state"] == "queued" else 0
            return JobRecord(**row, queue_position=position)

    @only_reads
    def jobs_of(self, user: str, before: tuple[float, str] | None, limit: int, subject: str) -> list[JobRecord]:
        """A user's jobs, newest first: those created before (time, id), and those of one subject, if given."""
        query = sa.select(*COLUMNS).where(job_table.c.user == user)
        if subject:
            query = query.where(job_table.c.subject == subject)
        if before:
            query = query.where(sa.tuple_(job_table.c.created_at, job_table.c.id) < sa.tuple_(*map(sa.literal, before)))
        query = query.order_by(job_table.c.created_at.desc(), job_table.c.id.desc()).limit(limit)
        with self._database.reading.connect() as connection:
            return [JobRecord(**row) for row in connection.execute(query).mappings()]

    @only_reads
    def unfinished(self, user: str | None = None) -> list[JobRecord]:
        """Unfinished jobs, oldest first."""
        query = sa.select(*COLUMNS).where(job_table.c.state.in_(UNFINISHED)).order_by(job_table.c.created_at)
        if user is not None:
            query = query.where(job_table.c.user == user)
        with self._database.reading.connect() as connection:
            positions = waiting.places(connection, user=user)
            return [
                JobRecord(**row, queue_position=positions.get(row["id"], 0))
                for row in connection.execute(query).mappings()
            ]

    @only_reads
    def subjects_in_work(self, subjects: Sequence[str], user: str | None, besides: str) -> set[str]:
        """Those of these subjects that unfinished jobs (of one user) are about, the job `besides` excepted."""
        query = sa.select(job_table.c.subject).where(job_table.c.state.in_(UNFINISHED), job_table.c.id != besides)
        if user is not None:
            query = query.where(job_table.c.user == user)
        found: set[str] = set()
        with self._database.reading.connect() as connection:
            for start in range(0, len(subjects), AT_ONCE):
                some = query.where(job_table.c.subject.in_(subjects[start : start + AT_ONCE]))
                found |= set(connection.execute(some.distinct()).scalars())
        return found

    @only_reads
    def unfinished_count(self, user: str) -> int:
        """How many unfinished jobs a user has."""
        with self._database.reading.connect() as connection:
            return _unfinished_count(connection, user)

    @only_reads
    def counts(self) -> dict[State, int]:
        """How many jobs there are in each state."""
        query = sa.select(job_table.c.state, sa.func.count().label("number")).group_by(job_table.c.state)
        with self._database.reading.connect() as connection:
            return {row.state: row.number for row in connection.execute(query)}

    @only_reads
    def backlog(self) -> Backlog:
        """What there is to do now."""
        queued = job_table.c.state == "queued"
        query = sa.select(
            sa.func.count().filter(queued),
            sa.func.count().filter(~queued),
            sa.func.coalesce(self._database.now - sa.func.min(job_table.c.created_at).filter(queued), 0.0),
        ).where(job_table.c.state.in_(UNFINISHED))
        with self._database.reading.connect() as connection:
            queued_count, running, oldest_seconds = connection.execute(query).one()
            return Backlog(queued_count, running, max(0.0, oldest_seconds))

    @only_reads
    def versions_since(self, moment: float | None) -> tuple[float, dict[str, int]]:
        """Returns the time for the next call, and the versions of jobs that have changed since `moment`.

        A change can only be seen when its transaction ends, so each call looks back a little further than `moment`.
        Compare versions to find the new changes.
        """
        with self._database.reading.connect() as connection:
            now = float(connection.execute(sa.select(self._database.now)).scalar_one())
            if moment is None:
                return now, {}
            query = sa.select(job_table.c.id, job_table.c.version)
            query = query.where(job_table.c.changed_at >= moment - WATCH_OVERLAP_SECONDS)
            rows = connection.execute(query.order_by(job_table.c.changed_at))
            return now, {row.id: row.version for row in rows}

    @only_reads
    def records(self, ids: Sequence[str]) -> list[JobRecord]:
        """Jobs in the order of `ids`, without places in the queue; those that are gone are left out."""
        found: dict[str, JobRecord] = {}
        with self._database.reading.connect() as connection:
            for start in range(0, len(ids), AT_ONCE):
                query = sa.select(*COLUMNS).where(job_table.c.id.in_(ids[start : start + AT_ONCE]))
                found |= {row["id"]: JobRecord(**row) for row in connection.execute(query).mappings()}
        return [found[job_id] for job_id in ids if job_id in found]

    @only_reads
    def queue_positions(self, first: int, ids: Collection[str]) -> dict[str, int]:
        """The places of the first queued jobs, and of these."""
        with self._database.reading.connect() as connection:
            found = waiting.places(connection, first=first)
            return found | {job_id: waiting.place(connection, job_id) for job_id in ids if job_id not in found}

    @only_reads
    def old_ids(self, older_than_seconds: float) -> list[str]:
        """Ids of jobs that ended so long ago."""
        old = sa.and_(
            job_table.c.state.not_in(UNFINISHED), job_table.c.ended_at < self._database.now - older_than_seconds
        )
        with self._database.reading.connect() as connection:
            return list(connection.execute(sa.select(job_table.c.id).where(old).limit(AT_ONCE)).scalars())

    def delete(self, ids: Sequence[str]) -> None:
        """Deletes jobs with their requests, steps and outputs."""
        with self._database.engine.begin() as connection:
            for table in (request_table, step_table, output_table):
                connection.execute(sa.delete(table).where(table.c.job_id.in_(ids)))
            connection.execute(sa.delete(job_table).where(job_table.c.id.in_(ids)))


def _unfinished_count(connection: Connection, user: str) -> int:
    query = sa.select(sa.func.count()).where(job_table.c.user == user, job_table.c.state.in_(UNFINISHED))
    return int(connection.execute(query).scalar_one())


def _known_job(request: Row[Any], wanted: Submission) -> str | None:
    """The job of a known request; None if its id has only been claimed."""
    if wanted.digest and request.digest not in (None, wanted.digest):
        raise AlreadyExistsError("This request_id belongs to another request.", "REQUEST_ID_REUSED")
    if request.job_id is None and request.withdrawn:
        raise PreconditionError("The request was withdrawn.", "WITHDRAWN")
    job_id: str | None = request.job_id
    return job_id
