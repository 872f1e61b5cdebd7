"""Users as protobuf messages."""

from services.auth.tables import User
from services.auth.times import timestamp
from stemtube.auth.v1 import user_pb2 as pb


def user_message(user: User) -> pb.User:
    """A user, without the password's hash."""
    return pb.User(
        id=user.id,
        username=user.username,
        admin=user.admin,
        create_time=timestamp(user.create_time),
        email=user.email,
        disabled=user.disabled,
        must_change_password=user.must_change_password,
    )
