"""Imports users of another installation."""

import secrets
import uuid
from contextlib import suppress
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from services.auth.passwords.hashing import PasswordHasher
from services.auth.passwords.old_hashes import is_old
from services.auth.rechecks import calling_admin
from services.auth.tables import User
from services.auth.users.names import checked_email, fold
from services.common.errors import AbortedError, InvalidInputError
from services.common.limits import MAX_USERNAME
from services.common.rpc.auth import Identity
from services.common.storage.database import Database
from stemtube.auth.v1 import import_pb2 as pb


class UserImporter:
    """Imports users whose names are not taken yet.

    Args:
        database: auth's own.
        hasher: hashes random passwords for users whose own cannot be imported.
    """

    def __init__(self, database: Database, hasher: PasswordHasher) -> None:
        self._database = database
        self._hasher = hasher

    async def add(self, request: pb.ImportUsersRequest, *, by: Identity) -> list[pb.ImportedUser]:
        """Adds users, or in a dry run only reports the outcome.

        Args:
            request: the users.
            by: the admin who asks.

        Returns:
            The outcome for each user, in the order of the request.

        Raises:
            AbortedError: an account with one of these names was just created; nobody was added (reason ABORTED).
            UnauthenticatedError, PermissionDeniedError: as for `calling_admin`.
        """
        unknown_hash = await self._hasher.hash(secrets.token_urlsafe(32))
        try:
            return await self._add(request, unknown_hash, by)
        except IntegrityError:
            raise AbortedError(
                "An account with one of these names was just created; nobody was added; try again."
            ) from None

    async def _add(self, request: pb.ImportUsersRequest, unknown_hash: str, by: Identity) -> list[pb.ImportedUser]:
        results = []
        names: set[str] = set()
        async with self._database.write(lock="auth import") as session:
            await calling_admin(session, by)
            known = {user.folded_username: user.id for user in await session.scalars(select(User))}
            for wanted in request.users:
                folded = fold(wanted.username)
                result = pb.ImportedUser(username=wanted.username)
                results.append(result)
                if refusal := _refusal(wanted.username, folded in names):
                    result.outcome, result.note = pb.IMPORT_OUTCOME_REFUSED, refusal
                    continue
                names.add(folded)
                if folded in known:
                    result.outcome, result.user_id = pb.IMPORT_OUTCOME_PRESENT, known[folded]
                    continue
                result.outcome = pb.IMPORT_OUTCOME_ADDED
                notes = []
                has_password = is_old(wanted.password_hash)
                if not has_password:
                    notes.append("the password's hash has an unknown format: an admin must reset the password")
                email = _email(wanted.email)
                if wanted.email and not email:
                    notes.append("the e-mail address is invalid and left out")
                result.note = "; ".join(notes)
                if not request.dry_run:
                    result.user_id = uuid.uuid4().hex
                    session.add(
                        User(
                            id=result.user_id,
                            username=wanted.username,
                            folded_username=folded,
                            password_hash=wanted.password_hash if has_password else unknown_hash,
                            email=email,
                            admin=wanted.admin,
                            create_time=_create_time(wanted),
                        )
                    )
        return results


def _refusal(username: str, is_taken: bool) -> str:
    if not username.strip() or len(username) > MAX_USERNAME or not username.isprintable():
        return f"a name must have 1 to {MAX_USERNAME} printable characters"
    return "another user in this import has the same name, apart from case" if is_taken else ""


def _email(address: str) -> str:
    """The address; empty if it is invalid."""
    try:
        return checked_email(address)
    except InvalidInputError:
        return ""


def _create_time(wanted: pb.UserToImport) -> datetime:
    """When the account was created; now if that is unknown or out of range."""
    if wanted.HasField("create_time"):
        with suppress(ValueError, OverflowError):
            return wanted.create_time.ToDatetime(UTC)
    return datetime.now(UTC)
