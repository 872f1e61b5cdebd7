"""gRPC clients: channels, the RPCs of auth that every service needs, and conversion of errors to domain errors."""

import json
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from services.common.errors import Code, StemTubeError
from services.common.rpc.auth import PublicKeys, ServiceIdentity
from services.common.rpc.server import MAX_MESSAGE_BYTES
from services.common.rpc.tls import channel_credentials
from stemtube.auth.v1 import access_token_pb2, access_token_pb2_grpc, session_pb2, session_pb2_grpc

CALL_SECONDS = 20.0
SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 3,
                # grpc.aio ends calls to a stopping server with CANCELLED; our servicers never do.
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        },
        # The first try may have used up the refresh token; a second try would then end the user's session.
        {"name": [{"service": "stemtube.auth.v1.SessionService", "method": "Refresh"}]},
    ],
}
CHANNEL_OPTIONS = (
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.enable_http_proxy", 0),
)


def open_channel(address: str, tls_dir: Path | None = None) -> grpc.aio.Channel:
    """A channel to all replicas of a service.

    Args:
        address: host:port, or a gRPC target such as `dns:///separation:50053`.
        tls_dir: certificates for mutual TLS; None for none.

    Raises:
        PreconditionError: a certificate cannot be read (reason NO_CERTIFICATE).
    """
    target = address if "://" in address or address.startswith(("dns:", "unix:")) else f"dns:///{address}"
    if tls_dir:
        return grpc.aio.secure_channel(target, channel_credentials(tls_dir), options=CHANNEL_OPTIONS)
    return grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)


async def final_answer(call: Any) -> Any:
    """The answer of a client-streaming RPC, or the status that the service ended it with.

    When the service has ended the call, the next write fails, and grpc.aio replaces the status that has arrived by
    INTERNAL, "Internal error from Core" (grpc/grpc#36066; 8 % of refused uploads here). This keeps the first status.

    Args:
        call: just started; nothing has been written to it.

    Raises:
        grpc.aio.AioRpcError: with the service's own status.
    """
    ends: list[grpc.aio.AioRpcError] = []
    call.add_done_callback(lambda ended: ends.append(_error_of(ended)))
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.INTERNAL and ends and ends[0].code() is not grpc.StatusCode.OK:
            raise ends[0] from error
        raise


def _error_of(ended: Any) -> grpc.aio.AioRpcError:
    """The status of a call that has just ended; its coroutines do not wait any more."""

    def value_of(coroutine: Coroutine[Any, Any, Any]) -> Any:
        try:
            coroutine.send(None)
        except StopIteration as stop:
            return stop.value
        raise AssertionError("a call that has ended has a status")

    return grpc.aio.AioRpcError(
        value_of(ended.code()),
        grpc.aio.Metadata(),
        value_of(ended.trailing_metadata()),
        value_of(ended.details()),
    )


class RemoteError(StemTubeError):
    """An error that another service answered with, with that service's code and reason."""

    def __init__(self, code: Code, message: str, reason: str, **metadata: str) -> None:
        super().__init__(message, reason, **metadata)
        self.code = code


def domain_error(error: grpc.aio.AioRpcError) -> RemoteError:
    """Converts a gRPC error to a domain error with the reason that the other side gave."""
    try:
        code = Code(error.code().value[0])
    except ValueError:
        code = Code.UNKNOWN
    reason, metadata = code.name, {}
    try:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it needs only code, details and metadata
    except (ValueError, DecodeError):  # a proxy may leave details of another status
        status = None
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            reason, metadata = info.reason, dict(info.metadata)
    return RemoteError(code, error.details() or code.name, reason, **metadata)


class AuthClient:
    """The calls that every service makes to auth: signing keys, ended sessions, and its own token."""

    def __init__(self, channel: grpc.aio.Channel, service: str, secret: str) -> None:
        self._access_tokens: Any = access_token_pb2_grpc.AccessTokenServiceStub(channel)
        self._sessions: Any = session_pb2_grpc.SessionServiceStub(channel)
        self._service = service
        self._secret = secret

    async def signing_keys(self) -> PublicKeys:
        """The public keys of access tokens, by key id.

        Raises:
            RemoteError: auth does not answer.
        """
        try:
            request = access_token_pb2.ListSigningKeysRequest()
            answer = await self._access_tokens.ListSigningKeys(request, timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise domain_error(error) from error
        return {key.key_id: Ed25519PublicKey.from_public_bytes(key.public_key) for key in answer.keys}

    async def ended_sessions(self, identity: ServiceIdentity) -> frozenset[str]:
        """Ids of ended sessions, whose access tokens must be refused even before they expire.

        Args:
            identity: of this service.

        Raises:
            RemoteError: auth does not answer, gives this service no token, or refuses it (the next call has another).
        """
        metadata = await identity.metadata()
        try:
            answer = await self._sessions.ListEndedSessions(
                session_pb2.ListEndedSessionsRequest(), metadata=metadata, timeout=CALL_SECONDS
            )
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                identity.refused()
            raise domain_error(error) from error
        return frozenset(answer.session_ids)

    async def issue_token(self) -> tuple[str, float]:
        """A token for this service and its lifetime in seconds.

        Raises:
            RemoteError: auth does not answer, or does not know the secret.
        """
        request = access_token_pb2.IssueServiceTokenRequest(service=self._service, secret=self._secret)
        try:
            answer = await self._access_tokens.IssueServiceToken(request, timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise domain_error(error) from error
        return answer.access_token, answer.expires_in.ToTimedelta().total_seconds()
