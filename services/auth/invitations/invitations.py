"""Invitations: codes that let people register."""

import uuid
from datetime import timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.auth.rechecks import calling_admin
from services.auth.secret import digest, new_secret
from services.auth.tables import Invitation
from services.auth.times import now
from services.common.errors import InvalidInputError, NotFoundError, PermissionDeniedError
from services.common.limits import MAX_INVITATION_USES, MAX_LIFETIME_DAYS
from services.common.rpc.auth import Identity
from services.common.storage.database import Database


class Invitations:
    """All invitations."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, uses: int, lifetime: timedelta, *, by: Identity) -> tuple[Invitation, str]:
        """Creates an invitation.

        Args:
            uses: how many people can register with it.
            lifetime: until it expires.
            by: the admin who asks.

        Returns:
            The record and the code.

        Raises:
            InvalidInputError: too many uses, or another lifetime than allowed (reason BAD_INVITATION).
            UnauthenticatedError, PermissionDeniedError: as for `calling_admin`.
        """
        if not 1 <= uses <= MAX_INVITATION_USES:
            raise InvalidInputError(f"An invitation can have 1 to {MAX_INVITATION_USES} uses.", "BAD_INVITATION")
        if not timedelta(0) < lifetime <= timedelta(days=MAX_LIFETIME_DAYS):
            raise InvalidInputError(f"An invitation can be valid for up to {MAX_LIFETIME_DAYS} days.", "BAD_INVITATION")
        code, created = new_secret(), now()
        invitation = Invitation(
            id=uuid.uuid4().hex,
            digest=digest(code),
            uses_left=uses,
            create_time=created,
            expire_time=created + lifetime,
        )
        async with self._database.write() as session:
            await calling_admin(session, by)
            session.add(invitation)
        return invitation, code

    async def all(self) -> list[Invitation]:
        """Invitations that can still be used, newest first."""
        query = select(Invitation).where(Invitation.uses_left > 0, Invitation.expire_time > now())
        async with self._database.read() as session:
            return list(await session.scalars(query.order_by(Invitation.create_time.desc(), Invitation.id)))

    async def delete(self, invitation_id: str) -> None:
        """Deletes an invitation.

        Raises:
            NotFoundError: there is no such invitation (reason NO_SUCH_INVITATION).
        """
        async with self._database.write() as session:
            gone = await session.scalars(
                delete(Invitation).where(Invitation.id == invitation_id).returning(Invitation.id)
            )
            if not list(gone):
                raise NotFoundError("There is no such invitation.", "NO_SUCH_INVITATION")

    async def purge(self) -> None:
        """Deletes invitations that cannot be used any more."""
        async with self._database.write() as session:
            await session.execute(
                delete(Invitation).where((Invitation.expire_time < now()) | (Invitation.uses_left < 1))
            )


async def spend_invitation(session: AsyncSession, code: str) -> None:
    """Uses an invitation once, within the transaction that creates the user.

    Raises:
        PermissionDeniedError: no invitation with this code can be used (reason BAD_INVITATION).
    """
    spent = await session.scalars(
        update(Invitation)
        .where(Invitation.digest == digest(code), Invitation.uses_left > 0, Invitation.expire_time > now())
        .values(uses_left=Invitation.uses_left - 1)
        .returning(Invitation.id)
        .execution_options(synchronize_session=False)
    )
    if not list(spent):
        raise PermissionDeniedError("Registering here needs a valid invitation.", "BAD_INVITATION")
