"""Converts jobs to messages of the contracts."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from services.common.errors import InvalidInputError
from services.common.jobs.records import BATCH, INTERACTIVE, JobRecord
from services.common.jobs.states import STATE_NUMBERS
from services.common.weights.store import Availability
from stemtube.common.v1 import provenance_pb2
from stemtube.job.v1 import job_pb2

PRIORITIES = {
    job_pb2.PRIORITY_UNSPECIFIED: INTERACTIVE,
    job_pb2.PRIORITY_INTERACTIVE: INTERACTIVE,
    job_pb2.PRIORITY_BATCH: BATCH,
}
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,100}")


def check_ids(**ids: str) -> None:
    """Checks ids that a caller chose: `check_ids(request_id=request.request_id)`.

    Raises:
        InvalidInputError: one is empty, too long, or has other characters (reason BAD_REQUEST).
    """
    for name, value in ids.items():
        if not _ID.fullmatch(value):
            raise InvalidInputError(f"{name} must be 1 to 100 letters, digits or _ . : -", "BAD_REQUEST")


def queue_priority(number: "job_pb2.Priority.ValueType") -> int:
    """The queue's priority for that of a message.

    Raises:
        InvalidInputError: unknown (reason BAD_REQUEST).
    """
    if number not in PRIORITIES:
        raise InvalidInputError("unknown priority", "BAD_REQUEST")
    return PRIORITIES[number]


def message_json(message: Message) -> dict[str, Any]:
    """A message as jobs store it: ProtoJSON with the contract's field names.

    Every ProtoJSON parser accepts these names as well as those in camel case.
    """
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def timestamp(seconds: float | None) -> Timestamp | None:
    """A time in seconds since 1970 as a message."""
    if seconds is None:
        return None
    message = Timestamp()
    message.FromDatetime(datetime.fromtimestamp(seconds, UTC))
    return message


def duration(seconds: float | None) -> Duration | None:
    """A duration in seconds as a message, to the millisecond."""
    if seconds is None:
        return None
    message = Duration()
    message.FromMilliseconds(round(max(seconds, 0.0) * 1000))
    return message


def error_message(error: Mapping[str, Any] | None) -> job_pb2.JobError | None:
    """A job's stored error as a message."""
    return job_pb2.JobError(**error) if error else None


def availability_message(found: Availability) -> provenance_pb2.Availability:
    """Whether a model can be used, as a message."""
    return provenance_pb2.Availability(
        available=found.available,
        unavailable_reason="" if found.available else found.reason,
        present=found.present,
        size_bytes=found.size_bytes,
    )


def job_message(record: JobRecord) -> job_pb2.Job:
    """A job as a message."""
    tries_again = record.state == "queued" and record.not_before is not None
    return job_pb2.Job(
        id=record.id,
        kind=record.kind,
        state=STATE_NUMBERS[record.state],
        progress=min(max(record.fraction, 0.0), 1.0),
        stage=record.stage,
        eta=None if record.finished else duration(record.eta_seconds),
        queue_position=record.queue_position,
        attempts=record.attempts,
        error=error_message(record.error),
        create_time=timestamp(record.created_at),
        start_time=timestamp(record.started_at),
        end_time=timestamp(record.ended_at),
        next_attempt_time=timestamp(record.not_before) if tries_again else None,
        last_error=error_message(record.retry_error) if tries_again else None,
    )
