"""Auth's records as the contracts tell them."""

from datetime import datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from services.auth.tables import ApiToken, Invitation, Session, User
from services.common.errors import InvalidInputError
from stemtube.auth.v1 import accounts_pb2, auth_pb2


def user_message(user: User) -> auth_pb2.User:
    """An account."""
    return auth_pb2.User(
        id=user.id,
        username=user.username,
        admin=user.admin,
        create_time=timestamp(user.create_time),
        email=user.email,
        disabled=user.disabled,
        must_change_password=user.must_change_password,
    )


def session_message(session: Session, current: str) -> accounts_pb2.SessionInfo:
    """A session, as its user sees it; `current` is the id of the one that asks."""
    return accounts_pb2.SessionInfo(
        id=session.id,
        create_time=timestamp(session.create_time),
        last_use_time=timestamp(session.last_use_time or session.create_time),
        address=session.address,
        client=session.client,
        current=session.id == current,
    )


def api_token_message(token: ApiToken) -> accounts_pb2.ApiToken:
    """An API token, without the token itself."""
    return accounts_pb2.ApiToken(
        id=token.id,
        name=token.name,
        scopes=token.scopes.split(),
        create_time=timestamp(token.create_time),
        expire_time=timestamp(token.expire_time),
        last_use_time=timestamp(token.last_use_time) if token.last_use_time else None,
    )


def invitation_message(invitation: Invitation) -> accounts_pb2.Invitation:
    """An invitation, without its code."""
    return accounts_pb2.Invitation(
        id=invitation.id,
        create_time=timestamp(invitation.create_time),
        expire_time=timestamp(invitation.expire_time),
        uses_left=invitation.uses_left,
    )


def timestamp(moment: datetime) -> Timestamp:
    """A moment."""
    message = Timestamp()
    message.FromDatetime(moment)
    return message


def duration(delta: timedelta) -> Duration:
    """A span of time."""
    message = Duration()
    message.FromTimedelta(delta)
    return message


def lifetime(message: Duration, unless_given: timedelta, reason: str) -> timedelta:
    """A span of time that somebody asks for; absent or zero: `unless_given`.

    Raises:
        InvalidInputError: longer than any calendar.
    """
    try:
        return message.ToTimedelta() or unless_given
    except (ValueError, OverflowError):
        raise InvalidInputError("This is too long a life.", reason) from None
