"""Request ids that callers choose: the same request again gets the same job."""

import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from services.common.errors import InvalidInputError
from services.common.jobs.queue import JobQueue
from services.common.jobs.records import JobRecord
from services.common.jobs.requests import request_digest

ID = re.compile(r"[A-Za-z0-9-]{1,64}")


def queue_request_id(user: str, request: Any) -> str:
    """The queue's id of a request: the user and the request's id, or a random id if the request has none."""
    return f"{user}:{request.request_id or uuid.uuid4().hex}"


@asynccontextmanager
async def claimed(queue: JobQueue, user: str, request: Any) -> AsyncIterator[JobRecord | None]:
    """Claims a request's id, if it has one, for the block that submits its job. Yields the job if it exists already.

    Raises:
        InvalidInputError: the id is malformed (reason BAD_REQUEST).
        AlreadyExistsError: it belongs to another request (reason REQUEST_ID_REUSED).
    """
    if not request.request_id:
        yield None
        return
    if not ID.fullmatch(request.request_id):
        raise InvalidInputError("request_id must have 1 to 64 letters, digits or -", "BAD_REQUEST")
    async with queue.claimed(queue_request_id(user, request), request_digest(request), user) as known:
        yield known


async def note_content(queue: JobQueue, user: str, request: Any, content_digest: str) -> None:
    """Stores the digest of the bytes that came with a request, if the request has an id.

    Raises:
        AlreadyExistsError: other bytes came with this id before (reason REQUEST_ID_REUSED).
    """
    if request.request_id:
        await queue.add_content(queue_request_id(user, request), request_digest(request), content_digest)
