"""Keeps the requests of a job to other services, so that all its attempts send the same ones.

The inputs of a request can change between two attempts (the track's beats, words from a lyrics site). The services
refuse a different request with an id that they know. So the first attempt stores each request before it sends it.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from services.common.errors import StoppedError
from services.common.jobs.context import JobContext


async def first_request(
    job: JobContext, name: str, make: Callable[[], Awaitable[dict[str, Any] | None]]
) -> dict[str, Any] | None:
    """Returns a request as the first attempt of a job made it. The first attempt makes and stores it.

    Args:
        job: the current attempt.
        name: name of the request, at most 30 characters.
        make: makes the request as JSON, or returns None if there is nothing to ask; None is not stored.

    Raises:
        StoppedError: another worker has the job by now.
    """
    output = f"request {name}"
    kept: dict[str, Any] | None = (await job.outputs()).get(output)
    if kept is None and (made := await make()) is not None:
        await job.keep_output(output, made)
        kept = (await job.outputs()).get(output)
        if kept is None:
            raise StoppedError("The job was stopped.")
    return kept
