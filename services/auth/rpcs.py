"""The gRPC services of auth, and who may call their RPCs."""

from services.common.rpc.auth import CHANGE_PASSWORD, READ
from stemtube.auth.v1 import (
    access_token_pb2,
    account_pb2,
    api_token_pb2,
    import_pb2,
    invitation_pb2,
    session_pb2,
    user_pb2,
)

SESSIONS = session_pb2.DESCRIPTOR.services_by_name["SessionService"].full_name
ACCOUNTS = account_pb2.DESCRIPTOR.services_by_name["AccountService"].full_name
API_TOKENS = api_token_pb2.DESCRIPTOR.services_by_name["ApiTokenService"].full_name
ACCESS_TOKENS = access_token_pb2.DESCRIPTOR.services_by_name["AccessTokenService"].full_name
USERS = user_pb2.DESCRIPTOR.services_by_name["UserService"].full_name
INVITATIONS = invitation_pb2.DESCRIPTOR.services_by_name["InvitationService"].full_name
USER_IMPORT = import_pb2.DESCRIPTOR.services_by_name["UserImportService"].full_name
NAMES = (SESSIONS, ACCOUNTS, API_TOKENS, ACCESS_TOKENS, USERS, INVITATIONS, USER_IMPORT)

PUBLIC = (
    f"/{SESSIONS}/Login",
    f"/{SESSIONS}/Refresh",
    f"/{SESSIONS}/Logout",
    f"/{ACCOUNTS}/Register",
    f"/{ACCOUNTS}/GetRegistration",
    f"/{API_TOKENS}/ExchangeApiToken",
    f"/{ACCESS_TOKENS}/IssueServiceToken",
    f"/{ACCESS_TOKENS}/ListSigningKeys",
)
"""RPCs that need no token."""

SCOPES = {
    f"/{ACCOUNTS}/GetMe": frozenset({READ, CHANGE_PASSWORD}),
    f"/{ACCOUNTS}/ChangePassword": frozenset({CHANGE_PASSWORD}),
    # A thief of an API token could use these to keep the account, so they need a session.
    f"/{SESSIONS}/ListSessions": frozenset[str](),
    f"/{SESSIONS}/EndSession": frozenset[str](),
    f"/{SESSIONS}/EndOtherSessions": frozenset[str](),
    f"/{API_TOKENS}/CreateApiToken": frozenset[str](),
    f"/{API_TOKENS}/ListApiTokens": frozenset[str](),
    f"/{API_TOKENS}/DeleteApiToken": frozenset[str](),
}
"""Scopes by RPC: a restricted token needs one of them; if there are none, no restricted token is accepted."""
