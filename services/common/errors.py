"""Domain errors, each with a stable reason that a client can act on.

Raise them where the fault is known. `services.common.rpc.interceptor` turns them into gRPC statuses with a
`google.rpc.ErrorInfo`, and the gateway turns those into HTTP. Nothing here depends on either, so audio code, models and
backends may raise them too. Each class also derives from the builtin exception that a Python caller would expect.
"""

import errno
from enum import IntEnum


class Code(IntEnum):
    """The numbers of `google.rpc.Code` that StemTube uses."""

    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class StemTubeError(Exception):
    """Base of all domain errors.

    Args:
        message: one sentence for a person, without secrets or local paths.
        reason: UPPER_SNAKE_CASE, stable, for programs (`ErrorInfo.reason`).
        metadata: further facts for programs (`ErrorInfo.metadata`), e.g. the limit that was exceeded.
    """

    code: Code = Code.UNKNOWN
    reason: str = "UNKNOWN"

    def __init__(self, message: str, reason: str | None = None, **metadata: str) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or type(self).reason
        self.metadata = metadata


class InvalidInputError(StemTubeError, ValueError):
    """The request or the file cannot be used as it is; sending it again will not help."""

    code = Code.INVALID_ARGUMENT
    reason = "INVALID_INPUT"


class NotFoundError(StemTubeError, LookupError):
    """There is no such thing, or the caller may not know of it."""

    code = Code.NOT_FOUND
    reason = "NOT_FOUND"


class AlreadyExistsError(StemTubeError, ValueError):
    """The name or id is taken."""

    code = Code.ALREADY_EXISTS
    reason = "ALREADY_EXISTS"


class UnauthenticatedError(StemTubeError, PermissionError):
    """There is no token, or it is not valid (any more)."""

    code = Code.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"


class PermissionDeniedError(StemTubeError, PermissionError):
    """The caller is known and may not do this."""

    code = Code.PERMISSION_DENIED
    reason = "PERMISSION_DENIED"


class LimitExceededError(StemTubeError):
    """A quota or a limit is exceeded."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "LIMIT_EXCEEDED"


class PreconditionError(StemTubeError, RuntimeError):
    """The system is not in the required state; the message says how to change that."""

    code = Code.FAILED_PRECONDITION
    reason = "FAILED_PRECONDITION"


class WeightsMissingError(PreconditionError):
    """A model's weights are missing and cannot be fetched; the message says how to get them."""

    reason = "WEIGHTS_MISSING"


class AbortedError(StemTubeError, RuntimeError):
    """Somebody else has changed it meanwhile; read it again and decide again."""

    code = Code.ABORTED
    reason = "ABORTED"


class UnavailableError(StemTubeError, ConnectionError):
    """Something that is needed does not work now; trying again later can help."""

    code = Code.UNAVAILABLE
    reason = "UNAVAILABLE"


class TooSlowError(StemTubeError, TimeoutError):
    """The client sends too slowly."""

    code = Code.DEADLINE_EXCEEDED
    reason = "TOO_SLOW"


class DeviceError(StemTubeError):
    """The device that computes (a GPU or its driver) failed; another worker may be able to run the job."""

    code = Code.UNAVAILABLE
    reason = "DEVICE_FAILED"


class NoMemoryError(DeviceError):
    """The device has not enough memory; another device may have more, or this one later."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "OUT_OF_MEMORY"


class DeviceNotReadyError(DeviceError):
    """The device failed its check, so nothing was begun."""

    reason = "DEVICE_NOT_READY"


class DataLossError(StemTubeError, RuntimeError):
    """Stored data is damaged. Trying again does not help; an operator must restore a backup."""

    code = Code.DATA_LOSS
    reason = "DATA_LOSS"


class StoppedError(StemTubeError):
    """The work was asked to stop (cancelled, or its worker is going away); raised by progress callbacks."""

    code = Code.CANCELLED
    reason = "STOPPED"


class InternalError(StemTubeError):
    """An internal error; its details are in the log, not in the answer."""

    code = Code.INTERNAL
    reason = "INTERNAL"


def full_disk(error: BaseException) -> UnavailableError | None:
    """The error DISK_FULL if a full disk is among the causes of `error`; it is transient, since room may come back."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT):
            return UnavailableError("The disk is full; try again later.", "DISK_FULL")
        seen = seen.__cause__ or seen.__context__
    return None
