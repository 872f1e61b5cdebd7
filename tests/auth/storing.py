"""Creates users and sessions directly in the database."""

from sqlalchemy import func, select

from services.auth.sessions.sessions import Sessions
from services.auth.tables import Base, User
from services.auth.users.repository import UserRepository
from services.common.rpc.auth import Identity
from services.common.storage.database import Database


async def count(database: Database, table: type[Base]) -> int:
    async with database.read() as session:
        return await session.scalar(select(func.count()).select_from(table)) or 0


async def new_admin(users: UserRepository) -> User:
    await users.create_first_admin("ada", "hash", lambda: None)
    user = await users.user_named("ada")
    assert user is not None
    return user


async def calling(sessions: Sessions, user: User) -> Identity:
    """The identity of a user who calls with a token of a new session."""
    _, session_id, _ = await sessions.open(user)
    return Identity(user.id, user.username, "user", admin=user.admin, session_id=session_id)
