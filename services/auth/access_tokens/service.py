"""Access tokens for services, and the keys that sign access tokens (access_token.proto)."""

import hmac
from typing import Any

import grpc.aio

from services.auth.access_tokens.issuer import TokenIssuer
from services.auth.access_tokens.keys import KeyRing
from services.auth.times import duration
from services.common.errors import InvalidInputError, UnauthenticatedError
from services.common.observe import audit
from services.common.rpc.auth import Identity, require_admin
from services.common.rpc.tls import peer_name
from stemtube.auth.v1 import access_token_pb2 as pb
from stemtube.auth.v1 import access_token_pb2_grpc

SERVICES = ("gateway", "download", "separation", "analysis")


class AccessTokenService(access_token_pb2_grpc.AccessTokenServiceServicer):
    """The servicer; the contract says what each RPC does and how it can end.

    Args:
        keys: sign access tokens.
        issuer: issues access tokens.
        service_secret: secret that all services of this suite share.
    """

    def __init__(self, keys: KeyRing, issuer: TokenIssuer, service_secret: str) -> None:
        self._keys = keys
        self._issuer = issuer
        self._service_secret = service_secret.encode()

    async def IssueServiceToken(
        self, request: pb.IssueServiceTokenRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.IssueServiceTokenResponse:
        if not hmac.compare_digest(request.secret.encode(), self._service_secret):
            audit.record("service refused", service=request.service[:64])
            raise UnauthenticatedError("This is not the service secret of this suite.", "BAD_CREDENTIALS")
        if request.service not in SERVICES:
            raise InvalidInputError(f"There is no such service; there are {', '.join(SERVICES)}.", "UNKNOWN_SERVICE")
        if peer_name(context) not in (None, request.service):
            audit.record("service refused", service=request.service, certificate=peer_name(context))
            raise UnauthenticatedError("The certificate belongs to another service.", "BAD_CREDENTIALS")
        identity = Identity(subject=request.service, name=request.service, kind="service")
        return pb.IssueServiceTokenResponse(
            access_token=await self._issuer.issue(identity), expires_in=duration(self._issuer.lifetime)
        )

    async def ListSigningKeys(self, _request: pb.ListSigningKeysRequest, _context: Any) -> pb.ListSigningKeysResponse:
        keys = await self._keys.public_keys()
        return pb.ListSigningKeysResponse(
            keys=[pb.SigningKey(key_id=key_id, public_key=key.public_bytes_raw()) for key_id, key in keys.items()]
        )

    async def RotateSigningKey(self, request: pb.RotateSigningKeyRequest, _context: Any) -> pb.RotateSigningKeyResponse:
        me = require_admin()
        key_id = await self._keys.rotate(by=me, withdraw_older=request.withdraw_older)
        audit.record("signing key rotated", key=key_id, withdrew_older=request.withdraw_older)
        return pb.RotateSigningKeyResponse(key_id=key_id)
