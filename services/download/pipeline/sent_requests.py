"""Requests of a job to other services, which are the same in each of its attempts.

What goes into a request can change between two attempts (the track's beats, words that a site knows). The services
refuse another request with an id that they know, so the first attempt keeps what it is about to send.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from services.common.errors import StoppedError
from services.common.jobs.context import JobContext


async def as_first_made(
    job: JobContext, name: str, make: Callable[[], Awaitable[dict[str, Any] | None]]
) -> dict[str, Any] | None:
    """What the first attempt of a job made under a name (JSON); made and kept now if this is the first.

    Args:
        job: this attempt.
        name: of the request; at most 30 characters.
        make: makes it; None: there is nothing to ask, which is not kept.

    Raises:
        StoppedError: the job is another worker's by now.
    """
    output = f"request {name}"
    kept: dict[str, Any] | None = (await job.outputs()).get(output)
    if kept is None and (made := await make()) is not None:
        await job.keep_output(output, made)
        kept = (await job.outputs()).get(output)
        if kept is None:
            raise StoppedError("The job was stopped.")
    return kept
