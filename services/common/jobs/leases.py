"""The statements of workers: attempts begin and end under a lease, and heartbeats renew it."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from services.common.jobs import waiting
from services.common.jobs.database import JobDatabase, only_reads, read_job, retry_while_database_down
from services.common.jobs.records import JobRecord
from services.common.jobs.states import State
from services.common.jobs.tables import job_table, output_table, step_table


class LeaseStore:
    """Changes jobs for their workers; every method blocks and may be called from any thread.

    Args:
        database: of the queue.
        longest_delay_seconds: the longest time that a job waits for its next attempt.
    """

    def __init__(self, database: JobDatabase, longest_delay_seconds: float) -> None:
        self._database = database
        self._longest_delay_seconds = longest_delay_seconds

    def claim(self, lease: str, at_once: int = 0, avoided: Collection[str] = ()) -> JobRecord | None:
        """Starts an attempt at the next job in turn; returns None if no job may start.

        The job then belongs to the holder of `lease`, a random string, until it ends or the lease is lost.

        Args:
            lease: of this attempt.
            at_once: how many jobs of one user may run at the same time in a lane; others are held back until `admit`.
                0: any number.
            avoided: ids of jobs that are not started.
        """
        # Most looks find nothing. They read only, so they neither wait for writers nor keep them waiting.
        with self._database.reading.connect() as connection:
            ready = waiting.ready_in_order(self._database.now, self._longest_delay_seconds, avoided)
            if connection.execute(ready.limit(1)).first() is None:
                return None
        with self._database.engine.begin() as connection:
            job_id = waiting.next_job(connection, at_once, ready, self._database.now)
            if job_id is None:
                return None
            connection.execute(
                self._database.change(job_id).values(
                    state="running",
                    lease=lease,
                    attempts=job_table.c.attempts + 1,
                    beat_at=self._database.now,
                    started_at=sa.func.coalesce(job_table.c.started_at, self._database.now),
                    not_before=None,
                )
            )
            return read_job(connection, job_id)

    def report(
        self, job_id: str, lease: str, stage: str, fraction: float, eta_seconds: float | None, detail: dict[str, Any]
    ) -> None:
        """Stores progress, unless the lease is lost; the fraction never falls."""
        behind = job_table.c.fraction >= fraction
        higher = sa.case((behind, job_table.c.fraction), else_=fraction)
        # If an attempt gets further than the ones before, the job itself did not kill their workers.
        deaths = sa.case((behind, job_table.c.deaths), else_=0)
        statement = self._database.change_owned(job_id, lease).values(
            stage=stage, fraction=higher, deaths=deaths, eta_seconds=eta_seconds, detail=detail
        )
        with self._database.engine.begin() as connection:
            connection.execute(statement)

    @retry_while_database_down
    def save_output(self, job_id: str, lease: str, name: str, content: Any) -> None:
        """Stores a part of the result before the job ends, unless the lease is lost."""
        with self._database.engine.begin() as connection:
            if connection.execute(self._database.change_owned(job_id, lease)).rowcount:
                same = sa.and_(output_table.c.job_id == job_id, output_table.c.name == name)
                connection.execute(sa.delete(output_table).where(same))
                connection.execute(sa.insert(output_table).values(job_id=job_id, name=name, content=content))

    @only_reads
    def outputs(self, job_id: str) -> dict[str, Any]:
        """The stored parts of the result, by name."""
        query = sa.select(output_table.c.name, output_table.c.content).where(output_table.c.job_id == job_id)
        with self._database.reading.connect() as connection:
            return {row.name: row.content for row in connection.execute(query)}

    @only_reads
    def kept_step(self, job_id: str, name: str) -> dict[str, Any] | None:
        """The stored outcome of a step of this or an earlier attempt; None if there is none."""
        query = sa.select(step_table.c.outcome).where(step_table.c.job_id == job_id, step_table.c.name == name)
        with self._database.reading.connect() as connection:
            return connection.execute(query).scalar()

    @retry_while_database_down
    def keep_step(self, job_id: str, lease: str, name: str, outcome: dict[str, Any]) -> None:
        """Stores the outcome of a step, unless the lease is lost."""
        owned = sa.select(job_table.c.id).where(job_table.c.id == job_id, job_table.c.lease == lease)
        same = sa.and_(step_table.c.job_id == job_id, step_table.c.name == name)
        with self._database.engine.begin() as connection:
            if connection.execute(owned.where(job_table.c.state == "running").with_for_update()).first():
                connection.execute(sa.delete(step_table).where(same))
                connection.execute(sa.insert(step_table).values(job_id=job_id, name=name, outcome=outcome))

    @retry_while_database_down
    def put_back(self, job_id: str, lease: str, seconds: float, error: dict[str, Any], *, counts: bool = True) -> bool:
        """Queues a job for its next attempt; returns False if the lease is lost.

        Args:
            job_id: of the job.
            lease: of the attempt that ended.
            seconds: to the next attempt.
            error: why this one ended.
            counts: whether this attempt, and the next one as a retry, are counted.
        """
        statement = self._database.change_owned(job_id, lease).values(
            state="queued",
            lease="",
            beat_at=None,
            eta_seconds=None,
            attempts=job_table.c.attempts - int(not counts),
            retries=job_table.c.retries + int(counts),
            not_before=self._database.now + seconds,
            retry_error=error,
        )
        with self._database.engine.begin() as connection:
            return connection.execute(statement).rowcount == 1

    def admit(self, user: str, at_once: int) -> None:
        """Lets held-back jobs of a user start, as many as there is room for."""
        with self._database.engine.begin() as connection:
            waiting.admit(connection, user, at_once, self._database.now)

    def admit_all(self, at_once: int) -> None:
        """As `admit`, for all users."""
        with self._database.reading.connect() as connection:
            users = waiting.users_held_back(connection)
        for user in users:
            self.admit(user, at_once)

    @retry_while_database_down
    def finish(
        self,
        job_id: str,
        lease: str,
        state: State,
        result: dict[str, Any] | None,
        error: dict[str, Any] | None,
        detail: dict[str, Any] | None = None,
    ) -> bool:
        """Ends a job, with the detail of its last report if given; returns False if the lease is lost."""
        values: dict[str, Any] = {"state": state, "result": result, "error": error, "ended_at": self._database.now}
        if detail is not None:
            values["detail"] = detail
        if state == "succeeded":
            values |= {"fraction": 1.0, "eta_seconds": 0.0}
        with self._database.engine.begin() as connection:
            return connection.execute(self._database.change_owned(job_id, lease).values(**values)).rowcount == 1

    @retry_while_database_down
    def release_after_device_fault(self, job_id: str, lease: str) -> bool:
        """Returns a job to the queue because the device failed; returns False if the lease is lost."""
        statement = self._database.change_owned(job_id, lease).values(
            state="queued", lease="", beat_at=None, eta_seconds=None, device_faults=job_table.c.device_faults + 1
        )
        with self._database.engine.begin() as connection:
            return connection.execute(statement).rowcount == 1

    def release(self, job_id: str, lease: str) -> bool:
        """Returns a job to the queue without counting this attempt; returns False if the lease is lost."""
        return bool(self.release_all([(job_id, lease)]))

    @retry_while_database_down
    def release_all(self, leases: Iterable[tuple[str, str]]) -> list[str]:
        """As `release`, for many (job id, lease); returns the ids of jobs whose lease was not lost."""
        values = {
            "state": "queued",
            "attempts": job_table.c.attempts - 1,
            "lease": "",
            "beat_at": None,
            "eta_seconds": None,
        }
        with self._database.engine.begin() as connection:
            return [
                job_id
                for job_id, lease in leases
                if connection.execute(self._database.change_owned(job_id, lease).values(values)).rowcount
            ]

    @only_reads
    def are_others_busy(self, own: Sequence[str], within_seconds: float) -> bool:
        """Whether other processes run jobs, judged by leases renewed lately.

        Args:
            own: ids of the jobs of this process.
            within_seconds: how lately.
        """
        running = sa.select(job_table.c.id).where(
            job_table.c.state == "running",
            job_table.c.beat_at > self._database.now - within_seconds,
            job_table.c.id.not_in(own),
        )
        with self._database.reading.connect() as connection:
            return connection.execute(running.limit(1)).first() is not None

    def beat(self, leases: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        """Renews leases, given as (job id, lease); returns those that are still held."""
        with self._database.engine.begin() as connection:
            return waiting.beat(connection, leases, self._database.now)

    @only_reads
    def beats(self) -> dict[tuple[str, str], float]:
        """When the leases of running jobs, (job id, lease), were last renewed."""
        query = sa.select(job_table.c.id, job_table.c.lease, job_table.c.beat_at).where(job_table.c.state == "running")
        with self._database.reading.connect() as connection:
            return {(row.id, row.lease): row.beat_at for row in connection.execute(query)}

    def expect_writable(self) -> None:
        """Waits until this process may write."""
        with self._database.engine.begin() as connection:
            # An update locks the database as far as it locks anything: SQLite for all others.
            connection.execute(sa.update(job_table).where(sa.false()).values(version=job_table.c.version))

    def take_silent(
        self, silent: Mapping[tuple[str, str], float], most_deaths: int, error: dict[str, Any]
    ) -> list[JobRecord]:
        """Ends leases that were not renewed since, and queues their jobs.

        Args:
            silent: leases and times that `beats` returned a while ago.
            most_deaths: a job fails instead when its workers have died this many times in a row without progress.
            error: of a job that fails.

        Returns:
            The jobs whose leases this call ended.
        """
        is_last = job_table.c.deaths + 1 >= most_deaths
        values = {
            "state": sa.case((is_last, "failed"), else_="queued"),
            "error": sa.case((is_last, sa.literal(error, sa.JSON))),
            "ended_at": sa.case((is_last, self._database.now)),
            "lease": "",
            "beat_at": None,
            "eta_seconds": None,
            "deaths": job_table.c.deaths + 1,
        }
        with self._database.engine.begin() as connection:
            return [
                read_job(connection, job_id)
                for (job_id, lease), beat_at in silent.items()
                if connection.execute(
                    self._database.change_owned(job_id, lease).where(job_table.c.beat_at == beat_at).values(values)
                ).rowcount
            ]
