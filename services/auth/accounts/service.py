"""The caller's own account (account.proto)."""

from typing import Any

from services.auth.accounts.registration import Registration
from services.auth.passwords.rules import checked_password
from services.auth.sessions.signing_in import SigningIn
from services.auth.users.messages import user_message
from services.auth.users.repository import UserRepository
from services.common.rpc.auth import require_user
from stemtube.auth.v1 import account_pb2 as pb
from stemtube.auth.v1 import account_pb2_grpc


class AccountService(account_pb2_grpc.AccountServiceServicer):
    """The servicer; the contract says what each RPC does and how it can end.

    Args:
        registration: lets people register.
        users: all users.
        signing_in: checks passwords and starts sessions.
    """

    def __init__(self, registration: Registration, users: UserRepository, signing_in: SigningIn) -> None:
        self._registration = registration
        self._users = users
        self._signing_in = signing_in

    async def Register(self, request: pb.RegisterRequest, _context: Any) -> pb.RegisterResponse:
        user = await self._registration.register(
            request.username, request.password, email=request.email, invitation=request.invitation
        )
        return pb.RegisterResponse(session=await self._signing_in.start_session(user))

    async def GetRegistration(self, _request: pb.GetRegistrationRequest, _context: Any) -> pb.GetRegistrationResponse:
        policy = self._registration.policy
        return pb.GetRegistrationResponse(open=policy == "open", by_invitation=policy == "invitation")

    async def GetMe(self, _request: pb.GetMeRequest, _context: Any) -> pb.GetMeResponse:
        return pb.GetMeResponse(user=user_message(await self._users.existing(require_user().subject)))

    async def ChangePassword(self, request: pb.ChangePasswordRequest, _context: Any) -> pb.ChangePasswordResponse:
        me = await self._users.existing(require_user().subject)
        checked_password(request.new_password, me.username)
        # People often change a password because somebody else knows it: that person's tokens must end.
        end_tokens = request.end_api_tokens if request.HasField("end_api_tokens") else True
        session = await self._signing_in.change_password(
            me.username, request.old_password, request.new_password, end_tokens=end_tokens
        )
        return pb.ChangePasswordResponse(session=session)
