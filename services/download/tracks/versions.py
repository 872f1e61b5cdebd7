"""Whose version of a track's results a job makes: the shared one, or its user's own.

A link is one track for all who have it. Shared results come from automatic choices alone, and once one is there no
user's job changes it. What is chosen or given by hand, what is made of such results, and a part that is made again is
the version of the user who asked for it, in that user's sight in place of the shared one. An upload has one user: all
its results are the track's.
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
from services.download.tracks.results import keys_of, put_part, put_stems, relist
from services.download.upkeep.reservations import release_in
from stemtube.analysis.v1 import music_pb2


class Kept(StrEnum):
    """What became of a result."""

    SHARED = "shared"
    """It is the track's now."""
    OWN = "own"
    """It is its user's version now."""
    NOT = "not"
    """The shared one is the same or was there first, or the track is gone."""


@dataclass(frozen=True, slots=True)
class KeptStems:
    """What became of stems, and keys of the objects of those that they replace."""

    kept: Kept
    replaced: list[str] = field(default_factory=list)


class Versions:
    """Keeps results of one user's jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep_part(
        self, user_id: str, track_id: str, part: str, content: dict[str, Any], *, by_hand: bool, again: bool
    ) -> Kept:
        """Keeps a part of a track (ProtoJSON).

        Args:
            user_id: who asked for it.
            track_id: of the track.
            part: its name.
            content: the part.
            by_hand: it was chosen or given, or made of something that was.
            again: the user asked for it although there is one.
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
            await relist(session, track, None if kept is Kept.SHARED else user_id)
            return kept

    async def rename_sections(self, track_id: str, before: music_pb2.Structure, content: dict[str, Any]) -> None:
        """Gives a track's shared sections other names, unless they have changed meanwhile."""
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
        """Keeps the stems of a separation, in place of the same model's earlier ones of the same names.

        Args:
            user_id: who asked for them.
            track_id: of the track.
            model: that made them.
            stems: columns of `Stem`.
            made_by: their provenance.
            by_hand: something about the separation was chosen.
            again: the user asked for it although there were stems.
            sizes: bytes of each with its peaks, by name; those of others are measured later.
            reservation_id: of the room for them.
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
        """What `keep_stems` would make of these stems now."""
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
        """Where a result belongs, given the shared one (None if there is none)."""
        if track.owner_id is not None or (known is None and not by_hand):
            return Kept.SHARED
        if known == made or not (by_hand or again):
            return Kept.NOT
        # A track that has been taken from the user meanwhile has no place for it.
        return Kept.OWN if await session.get(Access, (user_id, track.id)) is not None else Kept.NOT


def _structure(content: dict[str, Any]) -> music_pb2.Structure:
    return ParseDict(content, music_pb2.Structure(), ignore_unknown_fields=True)
