"""Stores results of jobs as the shared version of a track, or as the user's own version.

All users of a link share one track. Shared results come from automatic choices only, and no later job changes them. A
result is the user's own version if the user chose or gave something for it, if it was made from own results, or if the
user made it again. This user then sees it instead of the shared one. An upload has only one user, so all its results
are stored as shared ones.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from google.protobuf.json_format import ParseDict
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.common.storage.database import Database
from services.download.tables import Access, Analysis, OwnAnalysis, OwnStem, Stem, Track
from services.download.tracks.results import keys_of, put_part, put_stems, update_list_columns
from services.download.upkeep.reservations import release_in
from stemtube.analysis.v1 import music_pb2


class Kept(StrEnum):
    """Where a result was stored."""

    SHARED = "shared"
    """As the track's shared version."""
    OWN = "own"
    """As the user's own version."""
    NOT = "not"
    """Nowhere: the shared version is the same or was there first, or the track no longer exists."""


@dataclass(frozen=True, slots=True)
class KeptStems:
    """Where stems were stored, and the keys of the replaced stems' objects."""

    kept: Kept
    replaced: list[str] = field(default_factory=list)


class Versions:
    """Stores results of users' jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep_part(
        self, user_id: str, track_id: str, part: str, content: dict[str, Any], *, by_hand: bool, again: bool
    ) -> Kept:
        """Stores a part of a track.

        Args:
            user_id: the job's user.
            track_id: the track's id.
            part: name of the part.
            content: the part as ProtoJSON.
            by_hand: whether the user chose or gave something for it, or for its inputs.
            again: whether the user asked to make an existing part again.
        """
        async with self._database.write() as session:
            track = await session.get(Track, track_id, with_for_update=True)
            if track is None:
                return Kept.NOT
            shared = await session.get(Analysis, (track_id, part))
            known = shared.content if shared else None
            kept = await self._place(session, user_id, track, known, content, by_hand=by_hand, again=again)
            if kept is Kept.OWN:
                await put_part(session, track_id, part, content, user_id)
            elif kept is Kept.SHARED:
                await put_part(session, track_id, part, content)
            if kept is Kept.SHARED or known == content:
                own = (OwnAnalysis.user_id == user_id, OwnAnalysis.track_id == track_id, OwnAnalysis.part == part)
                await session.execute(delete(OwnAnalysis).where(*own))
            await update_list_columns(session, track, None if kept is Kept.SHARED else user_id)
            return kept

    async def rename_sections(self, track_id: str, before: music_pb2.Structure, content: dict[str, Any]) -> None:
        """Replaces a track's shared sections with renamed ones, unless they are no longer equal to `before`."""
        async with self._database.write() as session:
            if await session.get(Track, track_id, with_for_update=True) is None:
                return
            shared = await session.get(Analysis, (track_id, "structure"))
            if shared is not None and _structure(shared.content) == before:
                await put_part(session, track_id, "structure", content)

    async def keep_stems(
        self,
        user_id: str,
        track_id: str,
        model: str,
        stems: list[dict[str, Any]],
        made_by: dict[str, Any],
        *,
        by_hand: bool,
        again: bool,
        sizes: Mapping[str, int] | None = None,
        reservation_id: str = "",
    ) -> KeptStems:
        """Stores the stems of a separation, and replaces earlier ones of the same model and names.

        Args:
            user_id: the job's user.
            track_id: the track's id.
            model: the model that made them.
            stems: columns of `Stem`.
            made_by: their provenance.
            by_hand: whether the user chose anything for the separation.
            again: whether the user asked to make existing stems again.
            sizes: bytes of each stem with its peaks, by name. Missing ones are measured later.
            reservation_id: the reservation of room for them, which is released.
        """
        names = [stem["name"] for stem in stems]
        async with self._database.write() as session:
            track = await session.get(Track, track_id, with_for_update=True)
            if track is None:
                return KeptStems(Kept.NOT)
            await release_in(session, reservation_id)
            made = {stem["name"]: stem["audio_key"] for stem in stems}
            known = await self._shared_stems(session, track_id, model, made)
            kept = await self._place(session, user_id, track, known, made, by_hand=by_hand, again=again)
            if kept is Kept.OWN:
                return KeptStems(kept, await put_stems(session, track_id, model, stems, made_by, user_id, sizes))
            replaced: set[str] = set()
            if kept is Kept.SHARED:
                replaced |= set(await put_stems(session, track_id, model, stems, made_by, sizes=sizes))
            if kept is Kept.SHARED or known == made:
                own = (OwnStem.user_id == user_id, OwnStem.track_id == track_id, OwnStem.model == model)
                hiding = (*own, OwnStem.name.in_(names))
                replaced |= keys_of(await session.scalars(select(OwnStem).where(*hiding)))
                await session.execute(delete(OwnStem).where(*hiding))
            return KeptStems(kept, sorted(replaced))

    async def place_of_stems(
        self, user_id: str, track_id: str, model: str, stems: list[dict[str, Any]], *, by_hand: bool, again: bool
    ) -> Kept:
        """Where `keep_stems` would store these stems now."""
        made = {stem["name"]: stem["audio_key"] for stem in stems}
        async with self._database.read() as session:
            track = await session.get(Track, track_id)
            if track is None:
                return Kept.NOT
            known = await self._shared_stems(session, track_id, model, made)
            return await self._place(session, user_id, track, known, made, by_hand=by_hand, again=again)

    async def _shared_stems(
        self, session: AsyncSession, track_id: str, model: str, names: Collection[str]
    ) -> dict[str, str] | None:
        """Keys of a track's shared stems of these names; None if there are none."""
        same = select(Stem).where(Stem.track_id == track_id, Stem.model == model, Stem.name.in_(names))
        return {stem.name: stem.audio_key for stem in await session.scalars(same)} or None

    async def _place(
        self, session: AsyncSession, user_id: str, track: Track, known: Any, made: Any, *, by_hand: bool, again: bool
    ) -> Kept:
        """Where a result is to be stored, given the shared version (None if there is none)."""
        if track.owner_id is not None or (known is None and not by_hand):
            return Kept.SHARED
        if known == made or not (by_hand or again):
            return Kept.NOT
        # Own versions need the user's access, which may have ended meanwhile.
        return Kept.OWN if await session.get(Access, (user_id, track.id)) is not None else Kept.NOT


def _structure(content: dict[str, Any]) -> music_pb2.Structure:
    return ParseDict(content, music_pb2.Structure(), ignore_unknown_fields=True)
