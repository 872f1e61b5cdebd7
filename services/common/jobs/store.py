"""The table of jobs: what is wanted, by whom, how far it is, who works on it, and what came of it.

It lies in the queue's own database (SQLite or PostgreSQL), beside the engine's tables, and comes about by migrations
(`services/common/jobs/migrations`). Every change is one conditional
statement, so that of two processes that want to change a job, only the one that still owns it does. Times are seconds
since 1970 by the database's clock.
"""

import functools
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection, Engine, RowMapping
from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError

from services.common.errors import AlreadyExistsError, PreconditionError
from services.common.jobs import waiting as job_waiting
from services.common.jobs.tables import LANE_TURNS, UNFINISHED, State, job_table, output_table, request_table
from services.common.storage.sqlite_files import open_sqlite

WATCH_OVERLAP_SECONDS = 2.0
CONNECT_SECONDS = 5
READING_CONNECTIONS = WRITING_CONNECTIONS = 5
READS = frozenset(
    [
        "latest",
        "get",
        "jobs_of",
        "unfinished",
        "unfinished_count",
        "counts",
        "backlog",
        "changed_since",
        "queue_positions",
        "outputs",
        "old_ids",
        "is_unfinished",
        "others_work",
        "beats",
    ]
)
"""Methods that only read. They have connections of their own, and never wait for a writer that waits."""
DELETE_AT_ONCE = 500
OUTAGE_SECONDS, OUTAGE_POLL_SECONDS = 600.0, 0.5

Enqueue = Callable[[Connection, str, int], None]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One job as the table has it; `fraction` in [0, 1], times in seconds since 1970.

    A job that waits for its next attempt tells when that is due (`not_before`) and how the last one ended
    (`retry_error`). `origin` is what its first request came along with (`carried`); earlier versions kept none.
    `device_faults` counts how often the device of a worker failed at it.
    """

    id: str
    key: str
    kind: str
    user: str
    subject: str
    payload: dict[str, Any]
    state: State
    stage: str
    fraction: float
    eta_seconds: float | None
    attempts: int
    deaths: int
    created_at: float
    started_at: float | None
    ended_at: float | None
    version: int
    detail: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    origin: dict[str, str] | None = None
    device_faults: int = 0
    retries: int = 0
    not_before: float | None = None
    retry_error: dict[str, Any] | None = None
    queue_position: int = 0

    @property
    def finished(self) -> bool:
        """Nothing will change any more."""
        return self.state not in UNFINISHED


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a queue has before it: jobs that wait, jobs that run, and for how long the oldest has waited, in seconds."""

    queued: int
    running: int
    oldest_seconds: float


COLUMNS = [job_table.c[name] for name in JobRecord.__dataclass_fields__ if name != "queue_position"]


def _record(row: RowMapping) -> JobRecord:
    return JobRecord(**row)


P = ParamSpec("P")
T = TypeVar("T")


def _through_outages(method: Callable[P, T]) -> Callable[P, T]:
    """Has a method wait for a database that is away: what a worker must note down is not lost by a restart of it."""

    @functools.wraps(method)
    def insist(*arguments: P.args, **options: P.kwargs) -> T:
        deadline = time.monotonic() + OUTAGE_SECONDS
        while True:
            try:
                return method(*arguments, **options)
            except (OperationalError, InterfaceError) as error:
                if time.monotonic() > deadline:
                    raise
                log.warning("the database is away; trying again", error=type(error.orig).__name__)
                time.sleep(OUTAGE_POLL_SECONDS)

    return insist


class JobStore:
    """Reads and changes the table; every method blocks and may be called from any thread."""

    def __init__(self, url: str) -> None:
        self.engine = _create_engine(url, WRITING_CONNECTIONS)
        self._reading = _create_engine(url, READING_CONNECTIONS, only_reads=True)
        self._sqlite = self.engine.dialect.name == "sqlite"
        self._now: sa.ColumnElement[float] = (
            sa.literal_column("(julianday('now') - 2440587.5) * 86400.0", sa.Float)
            if self._sqlite
            else sa.literal_column("extract(epoch from clock_timestamp())::double precision", sa.Float)
        )

    @property
    def clock(self) -> sa.ColumnElement[float]:
        """The database's time, in seconds since 1970."""
        return self._now

    def close(self) -> None:
        """Gives the connections back."""
        self.engine.dispose()
        self._reading.dispose()

    def submit(
        self,
        *,
        key: str,
        request_id: str,
        kind: str,
        user: str,
        subject: str,
        payload: dict[str, Any],
        lane: int,
        enqueue: Enqueue,
        move: Enqueue,
        outdated: str,
        origin: dict[str, str],
        digest: str = "",
    ) -> JobRecord:
        """The job of a request: the one it made before, else an equal one, else a new one.

        Args:
            key: equal for equal work.
            request_id: the same again gives the same job.
            kind: of the work.
            user: who wants it.
            subject: what it is about, to find it by.
            payload: what the handler needs.
            lane: 0 or 1; all of lane 0 runs before any of lane 1.
            enqueue: hands a new job's id and turn to the engine within the same transaction; the lowest runs first.
            move: tells the engine, likewise, that a queued job has got an earlier turn.
            outdated: id of a job that succeeded but whose outputs are gone; it is not joined.
            origin: kept with a new job.
            digest: of what the request says (`job_requests`); empty: it is not compared.

        Raises:
            PreconditionError: the request was withdrawn before it came (reason WITHDRAWN).
            AlreadyExistsError: another request came with its id (reason REQUEST_ID_REUSED).
        """
        while True:
            try:
                with self.engine.begin() as connection:
                    return self._submit(
                        connection,
                        key,
                        request_id,
                        kind,
                        user,
                        subject,
                        payload,
                        lane,
                        enqueue,
                        move,
                        outdated,
                        origin,
                        digest,
                    )
            except IntegrityError:
                continue  # another process inserted the same request or generation: it is seen at the next look

    def _submit(
        self,
        connection: Connection,
        key: str,
        request_id: str,
        kind: str,
        user: str,
        subject: str,
        payload: dict[str, Any],
        lane: int,
        enqueue: Enqueue,
        move: Enqueue,
        outdated: str,
        origin: dict[str, str],
        digest: str,
    ) -> JobRecord:
        if self._sqlite:
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # sqlite3 would begin at the first change, after the look
        known = sa.select(request_table).where(request_table.c.request_id == request_id).with_for_update()
        if request := connection.execute(known).first():
            if digest and request.digest not in (None, digest):
                raise AlreadyExistsError("Another request came with this request_id.", "REQUEST_ID_REUSED")
            if request.job_id is not None:
                return self._get(connection, request.job_id)
            if request.withdrawn:
                raise PreconditionError("The request was withdrawn.", "WITHDRAWN")
        equal = sa.select(*COLUMNS, job_table.c.generation).where(job_table.c.key == key).with_for_update()
        latest = connection.execute(equal.order_by(job_table.c.generation.desc()).limit(1)).mappings().first()
        generation = 1
        if latest:
            row = dict(latest)
            generation = row.pop("generation") + 1
            record = JobRecord(**row)
            if not record.finished or (record.state == "succeeded" and record.id != outdated):
                self._add_request(connection, request_id, record.id, user, digest, claimed=request is not None)
                if record.state == "queued":
                    self._move_up(connection, record.id, user, lane, move)
                return record
        # Random: an id must not come again once its job is forgotten, for objects are stored under it.
        job_id = f"{key}-{uuid.uuid4().hex[:12]}"
        if not self._sqlite:  # else several submissions at once would get one turn
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(user))))
        turn = connection.execute(
            sa.insert(job_table)
            .values(
                id=job_id,
                key=key,
                generation=generation,
                kind=kind,
                user=user,
                subject=subject,
                payload=payload,
                turn=self._next_turn(user, lane),
                state="queued",
                detail={},
                created_at=self._now,
                changed_at=self._now,
                origin=origin,
            )
            .returning(job_table.c.turn)
        ).scalar_one()
        self._add_request(connection, request_id, job_id, user, digest, claimed=request is not None)
        enqueue(connection, job_id, turn)
        return self._get(connection, job_id)

    def _move_up(self, connection: Connection, job_id: str, user: str, lane: int, move: Enqueue) -> None:
        """Gives a queued job the turn that it would have as the user's own, if that is earlier."""
        own = self._next_turn(user, lane)
        earlier = self._change(job_id).where(job_table.c.turn > own).values(turn=own).returning(job_table.c.turn)
        turn = connection.execute(earlier).scalar()
        if turn is not None:
            move(connection, job_id, turn)

    def _next_turn(self, user: str, lane: int) -> sa.ScalarSelect[int]:
        """The turn of a user's next job: after the user's own jobs, and after the last turn that has begun.

        Start-time fair queueing (Goyal, Vin, Cheng: SIGCOMM 1996) with jobs of equal size: users' jobs alternate,
        however many of them one user has queued.
        """
        own = sa.and_(job_table.c.user == user, job_table.c.state.in_(UNFINISHED))
        first = lane * LANE_TURNS
        query = sa.select(sa.func.coalesce(sa.func.max(job_table.c.turn), first) + 1)
        return query.where(
            job_table.c.turn.between(first, first + LANE_TURNS - 1), sa.or_(own, job_table.c.started_at.is_not(None))
        ).scalar_subquery()

    def _add_request(
        self, connection: Connection, request_id: str, job_id: str, user: str, digest: str, *, claimed: bool
    ) -> None:
        values = {"job_id": job_id, "user": user, "digest": digest or None, "created_at": self._now}
        mine = request_table.c.request_id == request_id
        if claimed:
            connection.execute(sa.update(request_table).where(mine).values(values))
        else:
            connection.execute(sa.insert(request_table).values(request_id=request_id, **values))

    def _get(self, connection: Connection, job_id: str) -> JobRecord:
        return _record(connection.execute(sa.select(*COLUMNS).where(job_table.c.id == job_id)).mappings().one())

    def latest(self, key: str) -> JobRecord | None:
        """The newest job of a key."""
        query = sa.select(*COLUMNS).where(job_table.c.key == key).order_by(job_table.c.generation.desc()).limit(1)
        with self._reading.connect() as connection:
            row = connection.execute(query).mappings().first()
            return _record(row) if row else None

    def get(self, job_id: str) -> JobRecord | None:
        """The job, a queued one with its place in the queue."""
        with self._reading.connect() as connection:
            row = connection.execute(sa.select(*COLUMNS).where(job_table.c.id == job_id)).mappings().first()
            if row is None:
                return None
            position = job_waiting.place(connection, job_id) if row["state"] == "queued" else 0
            return JobRecord(**row, queue_position=position)

    def jobs_of(self, user: str, before: tuple[float, str] | None, limit: int, subject: str) -> list[JobRecord]:
        """A user's jobs, newest first, those created before (time, id) only; of one subject if given."""
        query = sa.select(*COLUMNS).where(job_table.c.user == user)
        if subject:
            query = query.where(job_table.c.subject == subject)
        if before:
            query = query.where(sa.tuple_(job_table.c.created_at, job_table.c.id) < sa.tuple_(*map(sa.literal, before)))
        query = query.order_by(job_table.c.created_at.desc(), job_table.c.id.desc()).limit(limit)
        with self._reading.connect() as connection:
            return [_record(row) for row in connection.execute(query).mappings()]

    def unfinished(self, user: str | None = None) -> list[JobRecord]:
        """Unfinished jobs, oldest first."""
        query = sa.select(*COLUMNS).where(job_table.c.state.in_(UNFINISHED)).order_by(job_table.c.created_at)
        if user is not None:
            query = query.where(job_table.c.user == user)
        with self._reading.connect() as connection:
            positions = job_waiting.places(connection)
            return [
                JobRecord(**row, queue_position=positions.get(row["id"], 0))
                for row in connection.execute(query).mappings()
            ]

    def is_unfinished(self, job_id: str) -> bool:
        """Whether there is such a job, and something left to do for it."""
        query = sa.select(job_table.c.id).where(job_table.c.id == job_id, job_table.c.state.in_(UNFINISHED))
        with self._reading.connect() as connection:
            return connection.execute(query).first() is not None

    def unfinished_count(self, user: str) -> int:
        """How many unfinished jobs a user has."""
        query = sa.select(sa.func.count()).where(job_table.c.user == user, job_table.c.state.in_(UNFINISHED))
        with self._reading.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def counts(self) -> dict[State, int]:
        """How many jobs there are in each state."""
        query = sa.select(job_table.c.state, sa.func.count().label("number")).group_by(job_table.c.state)
        with self._reading.connect() as connection:
            return {row.state: row.number for row in connection.execute(query)}

    def backlog(self) -> Backlog:
        """What there is to do now."""
        queued = job_table.c.state == "queued"
        query = sa.select(
            sa.func.count().filter(queued),
            sa.func.count().filter(~queued),
            sa.func.coalesce(self._now - sa.func.min(job_table.c.created_at).filter(queued), 0.0),
        ).where(job_table.c.state.in_(UNFINISHED))
        with self._reading.connect() as connection:
            waiting, running, oldest_seconds = connection.execute(query).one()
            return Backlog(waiting, running, max(0.0, oldest_seconds))

    def changed_since(self, moment: float | None) -> tuple[float, list[JobRecord]]:
        """Jobs changed since `moment` (by the time that an earlier call returned), and the time to ask with next.

        Times overlap, for a change is seen only when its transaction ends: compare versions.
        """
        with self._reading.connect() as connection:
            now = float(connection.execute(sa.select(self._now)).scalar_one())
            if moment is None:
                return now, []
            query = sa.select(*COLUMNS).where(job_table.c.changed_at >= moment - WATCH_OVERLAP_SECONDS)
            rows = connection.execute(query.order_by(job_table.c.changed_at)).mappings().all()
            positions = job_waiting.places(connection) if any(row["state"] == "queued" for row in rows) else {}
            return now, [JobRecord(**row, queue_position=positions.get(row["id"], 0)) for row in rows]

    def queue_positions(self) -> dict[str, int]:
        """The places of all queued jobs."""
        with self._reading.connect() as connection:
            return job_waiting.places(connection)

    @_through_outages
    def begin(self, job_id: str, lease: str, at_once: int = 0) -> JobRecord | None:
        """Starts the next attempt of an unfinished job; None if there is nothing left to do, or not yet.

        From here on the job belongs to whoever holds `lease`, a random string, until it ends or the lease is taken.

        Args:
            job_id: of the job.
            lease: of this attempt.
            at_once: jobs of a user, and of a lane, that may run; others are held back until `admit`. 0: any number.
        """
        is_due = sa.or_(job_table.c.not_before.is_(None), job_waiting.is_due(self._now))
        statement = (
            self._change(job_id)
            .where(job_table.c.state.in_(UNFINISHED), is_due)
            .values(
                state="running",
                lease=lease,
                attempts=job_table.c.attempts + 1,
                beat_at=self._now,
                started_at=sa.func.coalesce(job_table.c.started_at, self._now),
                held=False,
                not_before=None,
            )
        )
        with self.engine.begin() as connection:
            if at_once and job_waiting.hold(connection, job_id, at_once, self._now):
                return None
            if connection.execute(statement).rowcount == 0:
                return None
            return self._get(connection, job_id)

    def report(
        self, job_id: str, lease: str, stage: str, fraction: float, eta_seconds: float | None, detail: dict[str, Any]
    ) -> None:
        """Notes progress, unless the lease is lost; the fraction never falls."""
        behind = job_table.c.fraction >= fraction
        higher = sa.case((behind, job_table.c.fraction), else_=fraction)
        # Who gets further than before was not killed by the job itself the last time.
        deaths = sa.case((behind, job_table.c.deaths), else_=0)
        statement = self._owned(job_id, lease).values(
            stage=stage, fraction=higher, deaths=deaths, eta_seconds=eta_seconds, detail=detail
        )
        with self.engine.begin() as connection:
            connection.execute(statement)

    @_through_outages
    def save_output(self, job_id: str, lease: str, name: str, content: Any) -> None:
        """Keeps a part of the result that is ready before the job ends, unless the lease is lost."""
        with self.engine.begin() as connection:
            if connection.execute(self._owned(job_id, lease)).rowcount:
                same = sa.and_(output_table.c.job_id == job_id, output_table.c.name == name)
                connection.execute(sa.delete(output_table).where(same))
                connection.execute(sa.insert(output_table).values(job_id=job_id, name=name, content=content))

    def outputs(self, job_id: str) -> dict[str, Any]:
        """The parts of the result that are ready, by name."""
        query = sa.select(output_table.c.name, output_table.c.content).where(output_table.c.job_id == job_id)
        with self._reading.connect() as connection:
            return {row.name: row.content for row in connection.execute(query)}

    @_through_outages
    def put_back(self, job_id: str, lease: str, seconds: float, error: dict[str, Any]) -> bool:
        """Queues a job for its next attempt, due in so many seconds; False if the lease is lost."""
        statement = self._owned(job_id, lease).values(
            state="queued",
            lease="",
            beat_at=None,
            eta_seconds=None,
            retries=job_table.c.retries + 1,
            not_before=self._now + seconds,
            retry_error=error,
        )
        with self.engine.begin() as connection:
            return connection.execute(statement).rowcount == 1

    def take_due(self) -> list[str]:
        """Ids of jobs whose next attempt is due, each told to one caller, which resumes them."""
        with self.engine.begin() as connection:
            return job_waiting.take_due(connection, self._now)

    def admit(self, user: str, at_once: int) -> list[str]:
        """Ids of a user's jobs that were held back and may start now; the caller resumes them."""
        with self.engine.begin() as connection:
            return job_waiting.admit(connection, user, at_once, self._now)

    def admit_all(self, at_once: int) -> list[str]:
        """As `admit`, of all users."""
        with self._reading.connect() as connection:
            users = job_waiting.users_held_back(connection)
        return [job_id for user in users for job_id in self.admit(user, at_once)]

    @_through_outages
    def finish(
        self, job_id: str, lease: str, state: State, result: dict[str, Any] | None, error: dict[str, Any] | None
    ) -> bool:
        """Ends a job; False if the lease is lost."""
        values: dict[str, Any] = {"state": state, "result": result, "error": error, "ended_at": self._now}
        if state == "succeeded":
            values |= {"fraction": 1.0, "eta_seconds": 0.0}
        with self.engine.begin() as connection:
            return connection.execute(self._owned(job_id, lease).values(**values)).rowcount == 1

    @_through_outages
    def hand_on(self, job_id: str, lease: str) -> bool:
        """Gives a job back to the queue because the device failed at it; False if the lease is lost."""
        statement = self._owned(job_id, lease).values(
            state="queued", lease="", beat_at=None, eta_seconds=None, device_faults=job_table.c.device_faults + 1
        )
        with self.engine.begin() as connection:
            return connection.execute(statement).rowcount == 1

    def release(self, job_id: str, lease: str) -> bool:
        """Gives a job back to the queue, this attempt not counted; False if the lease is lost."""
        return bool(self.release_all([(job_id, lease)]))

    @_through_outages
    def release_all(self, leases: Iterable[tuple[str, str]]) -> list[str]:
        """As `release`, of many jobs (id, lease) at once; ids of those whose lease was not lost."""
        values = {"state": "queued", "attempts": job_table.c.attempts - 1, "lease": "", "beat_at": None}
        with self.engine.begin() as connection:
            return [
                job_id
                for job_id, lease in leases
                if connection.execute(self._owned(job_id, lease).values(eta_seconds=None, **values)).rowcount
            ]

    def others_work(self, own: Sequence[str], within_seconds: float) -> bool:
        """Whether other processes run jobs, by leases that they have kept so lately; `own` are this one's jobs."""
        running = sa.select(job_table.c.id).where(
            job_table.c.state == "running",
            job_table.c.beat_at > self._now - within_seconds,
            job_table.c.id.not_in(own),
        )
        with self._reading.connect() as connection:
            return connection.execute(running.limit(1)).first() is not None

    def withdraw(self, job_id: str, request_id: str | None) -> bool:
        """Takes one request back (None: all); True if that cancelled the job, nobody waiting for it any more."""
        requests = sa.update(request_table).where(request_table.c.job_id == job_id)
        if request_id is not None:
            requests = requests.where(request_table.c.request_id == request_id)
        waiting = sa.select(request_table.c.request_id).where(
            request_table.c.job_id == job_id, request_table.c.withdrawn.is_(False)
        )
        statement = (
            self._change(job_id)
            .where(job_table.c.state.in_(UNFINISHED), ~sa.exists(waiting))
            .values(state="cancelled", ended_at=self._now, eta_seconds=None)
        )
        with self.engine.begin() as connection:
            if not self._sqlite:  # a submission must not join in the meantime
                connection.execute(sa.select(job_table.c.id).where(job_table.c.id == job_id).with_for_update())
            connection.execute(requests.values(withdrawn=True))
            return connection.execute(statement).rowcount == 1

    def give_up_result(self, request_id: str) -> JobRecord | None:
        """Turns a succeeded job into a cancelled one if all its requests are withdrawn; None if one is not.

        The result stays in the row: what came of the job is removed by whoever knows that it is not in use.
        """
        wanted = sa.select(request_table.c.job_id).where(request_table.c.request_id == request_id)
        with self.engine.begin() as connection:
            job_id = connection.execute(wanted).scalar()
            if job_id is None:
                return None
            if not self._sqlite:  # a submission must not join in the meantime
                connection.execute(sa.select(job_table.c.id).where(job_table.c.id == job_id).with_for_update())
            waiting = sa.select(request_table.c.request_id).where(
                request_table.c.job_id == job_id, request_table.c.withdrawn.is_(False)
            )
            ended = self._change(job_id).where(job_table.c.state == "succeeded", ~sa.exists(waiting))
            connection.execute(ended.values(state="cancelled"))
            record = self._get(connection, job_id)
            return record if record.state == "cancelled" and record.result is not None else None

    def refuse_request(self, request_id: str) -> str | None:
        """The job of a request; one that has not come yet is refused when it comes (None)."""
        query = sa.select(request_table.c.job_id).where(request_table.c.request_id == request_id)
        while True:
            try:
                with self.engine.begin() as connection:
                    if row := connection.execute(query).first():
                        return row.job_id  # type: ignore[no-any-return]
                    refused = {"job_id": None, "user": "", "withdrawn": True, "created_at": self._now}
                    connection.execute(sa.insert(request_table).values(request_id=request_id, **refused))
                    return None
            except IntegrityError:
                continue  # it has just come

    def beat(self, leases: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        """Shows that the holders of these (job id, lease) live; returns those that are still held."""
        with self.engine.begin() as connection:
            return job_waiting.beat(connection, leases, self._now)

    def beats(self) -> dict[tuple[str, str], float]:
        """When the holders of running jobs (id, lease) last showed that they live."""
        query = sa.select(job_table.c.id, job_table.c.lease, job_table.c.beat_at).where(job_table.c.state == "running")
        with self._reading.connect() as connection:
            return {(row.id, row.lease): row.beat_at for row in connection.execute(query)}

    def take_silent(self, silent: Mapping[tuple[str, str], float]) -> list[JobRecord]:
        """Takes these leases, unless their holders have beaten since, and queues the jobs.

        Args:
            silent: as `beats` told them a while ago.

        Returns:
            The jobs; each to one caller.
        """
        with self.engine.begin() as connection:
            return [
                self._get(connection, job_id)
                for (job_id, lease), beat_at in silent.items()
                if connection.execute(
                    self._owned(job_id, lease)
                    .where(job_table.c.beat_at == beat_at)
                    .values(state="queued", lease="", beat_at=None, eta_seconds=None, deaths=job_table.c.deaths + 1)
                ).rowcount
            ]

    def give_up(self, job_id: str, error: dict[str, Any]) -> bool:
        """Ends a queued job as failed."""
        statement = self._change(job_id).where(job_table.c.state == "queued")
        with self.engine.begin() as connection:
            values = {"state": "failed", "error": error, "ended_at": self._now}
            return connection.execute(statement.values(**values)).rowcount == 1

    def take_forgotten(self, older_than_seconds: float) -> list[str]:
        """Ids of jobs that the engine will not hand out by itself, each told to one caller, which resumes them."""
        with self.engine.begin() as connection:
            return job_waiting.take_forgotten(connection, older_than_seconds, self._now)

    def old_ids(self, older_than_seconds: float) -> list[str]:
        """Jobs that ended long ago."""
        old = sa.and_(job_table.c.state.not_in(UNFINISHED), job_table.c.ended_at < self._now - older_than_seconds)
        with self._reading.connect() as connection:
            return list(connection.execute(sa.select(job_table.c.id).where(old).limit(DELETE_AT_ONCE)).scalars())

    def delete(self, ids: Sequence[str]) -> None:
        """Forgets jobs, with their requests and outputs."""
        with self.engine.begin() as connection:
            for table in (request_table, output_table):
                connection.execute(sa.delete(table).where(table.c.job_id.in_(ids)))
            connection.execute(sa.delete(job_table).where(job_table.c.id.in_(ids)))

    def _change(self, job_id: str) -> sa.Update:
        return (
            sa.update(job_table)
            .where(job_table.c.id == job_id)
            .values(changed_at=self._now, version=job_table.c.version + 1)
        )

    def _owned(self, job_id: str, lease: str) -> sa.Update:
        return self._change(job_id).where(job_table.c.lease == lease, job_table.c.state == "running")


def _create_engine(url: str, connections: int, *, only_reads: bool = False) -> Engine:
    kept = min(connections, 2)
    if not url.startswith("sqlite"):
        return sa.create_engine(
            url,
            pool_pre_ping=True,
            pool_size=kept,
            max_overflow=connections - kept,
            connect_args={"connect_timeout": CONNECT_SECONDS},
        )
    path = Path(sa.make_url(url).database or "")
    engine = sa.create_engine(
        url,
        creator=lambda: open_sqlite(path, isolation_level="IMMEDIATE", check_same_thread=False),
        pool_size=kept,
        max_overflow=connections - kept,
    )

    @sa.event.listens_for(engine, "connect")
    def set_pragmas(connection: Any, _record: Any) -> None:
        for pragma in (
            "busy_timeout=30000",
            "journal_mode=WAL",
            "synchronous=NORMAL",
            "foreign_keys=ON",
            f"query_only={only_reads}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    return engine
