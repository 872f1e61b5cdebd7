"""Invitations, for admins (invitation.proto)."""

from datetime import timedelta
from typing import Any

from services.auth.invitations.invitations import Invitations
from services.auth.tables import Invitation
from services.auth.times import lifetime, timestamp
from services.common.limits import DEFAULT_INVITATION_DAYS, DEFAULT_INVITATION_USES
from services.common.observe import audit
from services.common.rpc.auth import require_admin
from stemtube.auth.v1 import invitation_pb2 as pb
from stemtube.auth.v1 import invitation_pb2_grpc

DEFAULT_LIFETIME = timedelta(days=DEFAULT_INVITATION_DAYS)


class InvitationService(invitation_pb2_grpc.InvitationServiceServicer):
    """The servicer; the contract says what each RPC does and how it can end."""

    def __init__(self, invitations: Invitations) -> None:
        self._invitations = invitations

    async def CreateInvitation(self, request: pb.CreateInvitationRequest, _context: Any) -> pb.CreateInvitationResponse:
        me = require_admin()
        life = lifetime(request.lifetime, DEFAULT_LIFETIME, "BAD_INVITATION")
        invitation, code = await self._invitations.create(request.uses or DEFAULT_INVITATION_USES, life, by=me)
        audit.record("invitation created", invitation=invitation.id, uses=invitation.uses_left)
        return pb.CreateInvitationResponse(invitation=_message(invitation), code=code)

    async def ListInvitations(self, _request: pb.ListInvitationsRequest, _context: Any) -> pb.ListInvitationsResponse:
        require_admin()
        found = await self._invitations.all()
        return pb.ListInvitationsResponse(invitations=[_message(invitation) for invitation in found])

    async def DeleteInvitation(self, request: pb.DeleteInvitationRequest, _context: Any) -> pb.DeleteInvitationResponse:
        require_admin()
        await self._invitations.delete(request.invitation_id)
        audit.record("invitation deleted", invitation=request.invitation_id)
        return pb.DeleteInvitationResponse()


def _message(invitation: Invitation) -> pb.Invitation:
    return pb.Invitation(
        id=invitation.id,
        create_time=timestamp(invitation.create_time),
        expire_time=timestamp(invitation.expire_time),
        uses_left=invitation.uses_left,
    )
