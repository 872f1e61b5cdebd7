"""Reads a track's results as one user sees them (edits, own versions, shared results), and writes them."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.common.errors import NotFoundError, PreconditionError
from services.download.tables import Access, Analysis, Edit, ObjectState, OwnAnalysis, OwnStem, Stem, Track
from services.download.tracks.sorting import key_number, search_text, sort_artist, sort_title
from services.download.upkeep.object_states import faults_of

# Parts whose summaries are used in lists, for display, filters and orders.
SUMMARISED = ("beats", "key")
STEMS: tuple[type[Stem | OwnStem], ...] = (Stem, OwnStem)


@dataclass(frozen=True, slots=True)
class PartEdit:
    """The time of a user's edit, and whether the part was computed again after it."""

    edit_time: datetime
    computed_since: bool


@dataclass(frozen=True, slots=True)
class TrackData:
    """A track with its stems and analyses, as one user sees it or with its shared results.

    For each part, a user sees the edit, else the own version, else the shared one. `own` has the names of the parts of
    which the user has an own version.
    """

    track: Track
    access: Access | None = None
    stems: list[Stem | OwnStem] = field(default_factory=list)
    analyses: dict[str, dict[str, Any]] = field(default_factory=dict)
    own: set[str] = field(default_factory=set)
    edits: dict[str, PartEdit] = field(default_factory=dict)
    # States of the original, the stems, peaks and pictures that are missing or damaged, by key.
    faults: dict[str, ObjectState] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The user's own title, else that of the track."""
        return self.track.title if self.access is None or self.access.title is None else self.access.title

    @property
    def artist(self) -> str:
        """The user's own artist, else that of the track."""
        return self.track.artist if self.access is None or self.access.artist is None else self.access.artist

    @property
    def vocals(self) -> Stem | OwnStem | None:
        """The vocals stem: the user's own, else a shared one."""
        vocals = [stem for stem in self.stems if stem.name == "vocals"]
        return next((stem for stem in vocals if isinstance(stem, OwnStem)), vocals[0] if vocals else None)

    def has(self, key: str) -> bool:
        """Whether there is such a peaks file or picture, and it is not known to be missing."""
        return bool(key) and key not in self.faults

    def add_edit(self, row: Row[Any], content: dict[str, Any] | None) -> None:
        """Adds a user's edit.

        Args:
            row: a row of `EDITS`.
            content: replaces the computed part; None to keep that.
        """
        if content is not None:
            self.analyses[row.part] = content
        since = row.create_time is not None and row.create_time > row.edit_time
        self.edits[row.part] = PartEdit(row.edit_time, since)


EDITS = (
    select(
        Edit.track_id,
        Edit.part,
        Edit.content,
        Edit.summary,
        Edit.edit_time,
        func.coalesce(OwnAnalysis.create_time, Analysis.create_time).label("create_time"),
    )
    .outerjoin(Analysis, and_(Analysis.track_id == Edit.track_id, Analysis.part == Edit.part))
    .outerjoin(
        OwnAnalysis,
        and_(
            OwnAnalysis.user_id == Edit.user_id,
            OwnAnalysis.track_id == Edit.track_id,
            OwnAnalysis.part == Edit.part,
        ),
    )
)
"""Users' edits, each with the time at which the computed part that the user has was made."""


def summary_of(content: dict[str, Any]) -> dict[str, Any]:
    """A part's content without its lists, at any depth."""
    return {
        name: summary_of(value) if isinstance(value, dict) else value
        for name, value in content.items()
        if not isinstance(value, list)
    }


async def put_part(
    session: AsyncSession, track_id: str, part: str, content: dict[str, Any], user_id: str | None = None
) -> None:
    """Writes a shared part, or a user's own version of it, and replaces an earlier one."""
    values = {"content": content, "summary": summary_of(content), "create_time": datetime.now(UTC)}
    if user_id is None:
        await session.merge(Analysis(track_id=track_id, part=part, **values))
    else:
        await session.merge(OwnAnalysis(user_id=user_id, track_id=track_id, part=part, **values))
    await session.flush()


async def put_stems(
    session: AsyncSession,
    track_id: str,
    model: str,
    stems: list[dict[str, Any]],
    made_by: dict[str, Any],
    user_id: str | None = None,
    sizes: Mapping[str, int] | None = None,
) -> list[str]:
    """Writes shared stems, or a user's own, and replaces earlier ones of the same model and names.

    Args:
        session: a session of the library's database.
        track_id: the track's id.
        model: the model that made the stems.
        stems: columns of `Stem`.
        made_by: their provenance.
        user_id: the user whose own stems they are; None for shared stems.
        sizes: bytes of each stem with its peaks, by name. Missing ones are measured later.

    Returns:
        Keys of the replaced stems' objects.
    """
    table: type[Stem | OwnStem] = Stem if user_id is None else OwnStem
    place = {"track_id": track_id, "model": model} | ({} if user_id is None else {"user_id": user_id})
    names = [stem["name"] for stem in stems]
    earlier = keys_of(await session.scalars(select(table).filter_by(**place).where(table.name.in_(names))))
    for position, stem in enumerate(stems):
        size = (sizes or {}).get(stem["name"])
        await session.merge(table(**place, position=position, made_by=made_by, size_bytes=size, **stem))
    return sorted(earlier - {stem[name] for stem in stems for name in ("audio_key", "peaks_key")})


def keys_of(stems: Iterable[Stem | OwnStem]) -> set[str]:
    """Keys of the stems' objects."""
    return {key for stem in stems for key in (stem.audio_key, stem.peaks_key)}


async def add_results(
    session: AsyncSession,
    user_id: str | None,
    found: Mapping[str, TrackData],
    *,
    whole: bool = False,
    computed: bool = False,
) -> None:
    """Adds stems and parts to tracks.

    Args:
        session: a session of the library's database.
        user_id: the user whose edits and own versions are used; None for shared results only.
        found: the tracks by id.
        whole: whether to add all parts in full, instead of the summaries for lists.
        computed: whether the user's edits are listed but not used.
    """
    stems: dict[tuple[str, str, str], Stem | OwnStem] = {}
    for stem_table in STEMS if user_id is not None else STEMS[:1]:
        rows: Select[Any] = select(stem_table).where(stem_table.track_id.in_(found), *_of_user(stem_table, user_id))
        stems |= {(stem.track_id, stem.model, stem.name): stem for stem in await session.scalars(rows)}
    for stem in sorted(stems.values(), key=lambda stem: (stem.model, stem.position, stem.name)):
        found[stem.track_id].stems.append(stem)
    await _add_faults(session, found.values())
    for table in (Analysis, OwnAnalysis) if user_id is not None else (Analysis,):
        query = select(table.track_id, table.part, (table.content if whole else table.summary).label("known"))
        query = query.where(table.track_id.in_(found), *_of_user(table, user_id))
        # `own` must name all own versions, so all of them are read.
        is_all = whole or table is OwnAnalysis
        for row in await session.execute(query if is_all else query.where(table.part.in_(SUMMARISED))):
            found[row.track_id].analyses[row.part] = row.known
            if table is OwnAnalysis:
                found[row.track_id].own.add(row.part)
    for row in await session.execute(EDITS.where(Edit.user_id == user_id, Edit.track_id.in_(found))):
        found[row.track_id].add_edit(row, None if computed else row.content if whole else row.summary)


async def _add_faults(session: AsyncSession, found: Collection[TrackData]) -> None:
    keys = [{data.track.audio_key, data.track.peaks_key, data.track.cover_key, *keys_of(data.stems)} for data in found]
    faults = await faults_of(session, set().union(*keys))
    for data, own in zip(found, keys, strict=True) if faults else ():
        data.faults.update({key: state for key, state in faults.items() if key in own})


def no_such_track() -> NotFoundError:
    """The error for a track that does not exist, or that the user does not have."""
    return NotFoundError("There is no such track.", "NO_SUCH_TRACK")


def expect_audio(data: TrackData) -> None:
    """Checks that a track's original can be used. The damaged original of a link can: the job fetches it again.

    Raises:
        PreconditionError: it has not arrived, or an uploaded file is damaged (reason TRACK_NOT_READY,
            ORIGINAL_DAMAGED).
    """
    if not data.track.audio_key:
        raise PreconditionError("The track's audio has not arrived yet.", "TRACK_NOT_READY")
    if not data.track.url:
        expect_undamaged(data, data.track.audio_key)


def expect_undamaged(data: TrackData, key: str) -> None:
    """Checks that an object of a track is not known to be damaged.

    Raises:
        PreconditionError: it is damaged (reason ORIGINAL_DAMAGED).
    """
    if is_damaged(data, key):
        raise PreconditionError(
            "The file is damaged: its bytes have changed. To repair it, upload the same file again; for a link, add "
            "the link or process its track again.",
            "ORIGINAL_DAMAGED",
        )


def is_damaged(data: TrackData, key: str) -> bool:
    """Whether an object of a track is known to be damaged."""
    state = data.faults.get(key)
    return state is not None and state.damaged_since is not None and state.missing_since is None


def _of_user(table: Any, user_id: str | None) -> tuple[ColumnElement[bool], ...]:
    return (table.user_id == user_id,) if table in (OwnStem, OwnAnalysis) else ()


async def update_list_columns(session: AsyncSession, track: Track, user_id: str | None = None) -> None:
    """Updates the columns that lists are sorted and filtered by, for one user or for all users of a track.

    The caller must have locked the track's row.
    """
    parts = select(Analysis.part, Analysis.summary).where(Analysis.track_id == track.id)
    parts = parts.where(Analysis.part.in_(SUMMARISED))
    shared: dict[str, dict[str, Any]] = {row.part: row.summary for row in await session.execute(parts)}
    # Edits replace own versions.
    own: dict[tuple[str, str], dict[str, Any]] = {}
    for table in (OwnAnalysis, Edit):
        rows = select(table.user_id, table.part, table.summary).where(table.track_id == track.id)
        rows = rows if user_id is None else rows.where(table.user_id == user_id)
        own |= {(row.user_id, row.part): row.summary for row in await session.execute(rows)}
    accesses = select(Access).where(Access.track_id == track.id)
    if user_id is not None:
        accesses = accesses.where(Access.user_id == user_id)
    for access in await session.scalars(accesses):
        beats, key = (own.get((access.user_id, part), shared.get(part, {})) for part in SUMMARISED)
        data = TrackData(track, access)
        access.sort_title, access.sort_artist = sort_title(data.title), sort_artist(data.artist, data.title)
        access.search_text = search_text(data.title, data.artist)
        access.tempo_bpm = float(beats.get("tempo", {}).get("bpm", 0.0))
        access.key_number = key_number(key.get("tonic", ""), key.get("mode", ""))
        access.duration_seconds = track.duration_seconds
