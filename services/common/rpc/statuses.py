"""Domain errors as gRPC statuses."""

from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from services.common.errors import (
    StemTubeError,
)

ERROR_DOMAIN = "stemtube"
# Metadata contain a message twice, encoded in up to three times its size.
MAX_ERROR_BYTES = 1000


def error_status(error: StemTubeError) -> status_pb2.Status:
    """The status of a domain error: code, message, and an `ErrorInfo` with reason and metadata."""
    detail = any_pb2.Any()
    metadata = {name: _shortened(value) for name, value in error.metadata.items()}
    detail.Pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN, metadata=metadata))
    return status_pb2.Status(code=int(error.code), message=_shortened(error.message), details=[detail])


def _shortened(text: str) -> str:
    """Shortens the text of an error, which may repeat a client's input, for metadata, and makes it valid UTF-8."""
    return text.encode(errors="replace")[:MAX_ERROR_BYTES].decode(errors="ignore")
