"""Times and durations, and their protobuf messages."""

from datetime import UTC, datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from services.common.errors import InvalidInputError

CLOCKS_DIFFER = timedelta(minutes=2)
"""The clocks of two machines differ by no more."""


def now() -> datetime:
    """The current time, in UTC."""
    return datetime.now(UTC)


def timestamp(time: datetime) -> Timestamp:
    """The message of a time."""
    message = Timestamp()
    message.FromDatetime(time)
    return message


def duration(delta: timedelta) -> Duration:
    """The message of a duration."""
    message = Duration()
    message.FromTimedelta(delta)
    return message


def lifetime(message: Duration, default: timedelta, reason: str) -> timedelta:
    """The lifetime that a request asks for.

    Args:
        message: the field of the request.
        default: the lifetime if the field is absent or zero.
        reason: the reason of the error.

    Raises:
        InvalidInputError: longer than `timedelta` can hold.
    """
    try:
        return message.ToTimedelta() or default
    except (ValueError, OverflowError):
        raise InvalidInputError("This lifetime is too long.", reason) from None
