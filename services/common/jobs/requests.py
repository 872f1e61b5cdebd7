"""Request ids: the same request gets the same job; another request with its id is refused.

An id belongs to the first request that used it. A stored digest distinguishes requests.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from services.common.errors import AlreadyExistsError, PreconditionError
from services.common.jobs.database import JobDatabase, read_job
from services.common.jobs.records import JobRecord
from services.common.jobs.states import UNFINISHED
from services.common.jobs.tables import job_table, request_table


def request_digest(request: Message) -> str:
    """A digest of a request without its `request_id`; equal for equal requests, whatever the version of StemTube."""
    asked = MessageToDict(request, preserving_proto_field_name=True)
    asked.pop("request_id", None)
    return hashlib.sha256(json.dumps([request.DESCRIPTOR.full_name, asked], sort_keys=True).encode()).hexdigest()


def request_id_reused() -> AlreadyExistsError:
    """The error of a request whose id belongs to another one."""
    return AlreadyExistsError("This request_id belongs to another request; choose another id.", "REQUEST_ID_REUSED")


class RequestStore:
    """Claims ids for requests that have no job yet, and withdraws requests; every method blocks.

    A row of the table without a job is a claim. It lasts until its job exists, or until the calls that made it have
    ended. Equal requests share a claim.

    Args:
        database: of the queue.
    """

    def __init__(self, database: JobDatabase) -> None:
        self._database = database

    def claim(self, request_id: str, digest: str, user: str) -> str | None:
        """Claims an id; returns the id of the request's job, if it has one already.

        Raises:
            AlreadyExistsError: it belongs to another request (reason REQUEST_ID_REUSED).
            PreconditionError: the request was withdrawn (reason WITHDRAWN).
        """
        while True:
            try:
                with self._database.engine.begin() as connection:
                    return self._claim(connection, request_id, digest, user)
            except IntegrityError:
                continue  # another request has just used the id

    def _claim(self, connection: Connection, request_id: str, digest: str, user: str) -> str | None:
        mine = request_table.c.request_id == request_id
        # An update before the look locks the row.
        held = sa.update(request_table).where(mine).values(open_calls=request_table.c.open_calls + 1)
        columns = (request_table.c.job_id, request_table.c.digest, request_table.c.withdrawn)
        known = connection.execute(held.returning(*columns)).first()
        if known is None:
            claim = {
                "request_id": request_id,
                "user": user,
                "digest": digest,
                "open_calls": 1,
                "created_at": self._database.now,
            }
            connection.execute(sa.insert(request_table).values(claim))
            return None
        if known.digest is not None and not is_same(known.digest, digest):
            raise request_id_reused()
        if known.job_id is None and known.withdrawn:
            raise PreconditionError("The request was withdrawn.", "WITHDRAWN")
        job_id: str | None = known.job_id
        return job_id

    def add_content(self, request_id: str, digest: str, content_digest: str) -> None:
        """Records the digest of the content that followed a claimed request, before the content is used.

        Raises:
            AlreadyExistsError: other content came with this id before (reason REQUEST_ID_REUSED).
        """
        whole = with_content(digest, content_digest)
        kept = request_table.c.digest
        # An earlier version kept none.
        is_known = sa.or_(kept.is_(None), kept.in_((digest, whole)))
        same = sa.and_(request_table.c.request_id == request_id, is_known)
        with self._database.engine.begin() as connection:
            if connection.execute(sa.update(request_table).where(same).values(digest=whole)).rowcount == 0:
                raise request_id_reused()

    def release(self, request_id: str) -> None:
        """Ends a call's claim on an id; the last one frees an id without a job."""
        mine = request_table.c.request_id == request_id
        unused = sa.and_(mine, request_table.c.job_id.is_(None), request_table.c.withdrawn.is_(False))
        with self._database.engine.begin() as connection:
            less = request_table.c.open_calls - 1
            connection.execute(sa.update(request_table).where(mine).values(open_calls=less))
            connection.execute(sa.delete(request_table).where(unused, request_table.c.open_calls <= 0))

    def forget_old(self, older_than_seconds: float) -> None:
        """Deletes old rows without a job: claims of processes that died, withdrawals of requests that never came."""
        old = request_table.c.created_at < self._database.now - older_than_seconds
        with self._database.engine.begin() as connection:
            connection.execute(sa.delete(request_table).where(request_table.c.job_id.is_(None), old))

    def withdraw(self, job_id: str, request_id: str | None) -> bool:
        """Withdraws one request, or all (None); returns True if that cancelled the job because no request is left."""
        requests = sa.update(request_table).where(request_table.c.job_id == job_id)
        if request_id is not None:
            requests = requests.where(request_table.c.request_id == request_id)
        statement = (
            self._database.change(job_id)
            .where(job_table.c.state.in_(UNFINISHED), ~_is_wanted(job_id))
            .values(state="cancelled", ended_at=self._database.now, eta_seconds=None)
        )
        with self._database.engine.begin() as connection:
            self._database.lock_job(connection, job_id)  # else a submission could join the job meanwhile
            connection.execute(requests.values(withdrawn=True))
            return connection.execute(statement).rowcount == 1

    def give_up_result(self, request_id: str) -> JobRecord | None:
        """Marks a succeeded job as cancelled if all its requests are withdrawn; returns None otherwise.

        The result stays in the row: the caller removes the objects of the job when it knows that they are not in use.
        """
        wanted = sa.select(request_table.c.job_id).where(request_table.c.request_id == request_id)
        with self._database.engine.begin() as connection:
            job_id = connection.execute(wanted).scalar()
            if job_id is None:
                return None
            self._database.lock_job(connection, job_id)  # else a submission could join the job meanwhile
            ended = self._database.change(job_id).where(job_table.c.state == "succeeded", ~_is_wanted(job_id))
            connection.execute(ended.values(state="cancelled"))
            record = read_job(connection, job_id)
            return record if record.state == "cancelled" and record.result is not None else None

    def refuse(self, request_id: str) -> str | None:
        """Returns the job's id of a request. If the request has not come yet, returns None and refuses it later."""
        query = sa.select(request_table.c.job_id).where(request_table.c.request_id == request_id)
        while True:
            try:
                with self._database.engine.begin() as connection:
                    if row := connection.execute(query).first():
                        return row.job_id  # type: ignore[no-any-return]
                    refused = {"job_id": None, "user": "", "withdrawn": True, "created_at": self._database.now}
                    connection.execute(sa.insert(request_table).values(request_id=request_id, **refused))
                    return None
            except IntegrityError:
                continue  # the request has just come


def with_content(digest: str, content_digest: str) -> str:
    """Joins the digest of a request and that of the content that follows it, if there is any."""
    return f"{digest}.{content_digest}" if content_digest else digest


def is_same(kept: str, digest: str) -> bool:
    """Whether two digests are of the same request, as far as both are known: the content may not have come yet."""
    known: Sequence[Any] = kept.split(".")
    return all(one == other for one, other in zip(known, digest.split("."), strict=False))


def _is_wanted(job_id: str) -> sa.Exists:
    """Whether a request for the job has not been withdrawn."""
    wanted = sa.and_(request_table.c.job_id == job_id, request_table.c.withdrawn.is_(False))
    return sa.exists(sa.select(request_table.c.request_id).where(wanted))
