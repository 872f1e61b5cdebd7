"""Adds users' own titles, notes and edits, playlists, sizes, and columns for sorting and filtering lists.

The functions for sorting are copied here as they were at this version, because migrations do not change with the code.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

BATCH = 200
SORTED = 80
PITCH_CLASSES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    _add("tracks", sa.Column("size_bytes", sa.BigInteger))
    _add("stems", sa.Column("size_bytes", sa.BigInteger))
    for table in ("tracks", "stems"):
        op.create_index(f"ix_{table}_peaks_key", table, ["peaks_key"])
    added = (
        sa.Column("summary", sa.JSON, nullable=False, server_default="{}"),
        sa.Column("create_time", moment),
    )
    if op.get_bind().dialect.name == "sqlite":
        # Put before the content, because SQLite reads a row from its start, and the content can have hundreds of pages.
        with op.batch_alter_table("analyses", recreate="always") as analyses:
            for new, place in zip(added, ("part", "summary"), strict=True):
                analyses.add_column(new, insert_after=place)
    else:
        _add("analyses", *added)
    _add(
        "access",
        sa.Column("title", sa.String(300)),
        sa.Column("artist", sa.String(300)),
        sa.Column("favourite", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("notes", sa.Text, nullable=False, server_default=""),
        sa.Column("remove_time", moment),
        sa.Column("sort_title", _sorted_text(SORTED), nullable=False, server_default=""),
        sa.Column("sort_artist", _sorted_text(2 * SORTED + 1), nullable=False, server_default=""),
        sa.Column("search_text", sa.Text, nullable=False, server_default=""),
        sa.Column("tempo_bpm", sa.Float, nullable=False, server_default="0"),
        sa.Column("key_number", sa.SmallInteger, nullable=False, server_default="-1"),
        sa.Column("duration_seconds", sa.Float, nullable=False, server_default="0"),
    )
    _fill_summaries()
    _fill_list_columns()
    op.create_index("ix_access_remove_time", "access", ["remove_time"])
    for name, sorted_by in (
        ("title", "sort_title"),
        ("artist", "sort_artist"),
        ("tempo", "tempo_bpm"),
        ("duration", "duration_seconds"),
    ):
        op.create_index(f"ix_access_user_{name}", "access", ["user_id", sorted_by, "track_id"])
    op.create_table(
        "edits",
        sa.Column("user_id", sa.String(100), nullable=False),
        sa.Column("track_id", sa.String(32), nullable=False),
        sa.Column("part", sa.String(20), nullable=False),
        sa.Column("summary", sa.JSON, nullable=False),
        sa.Column("edit_time", moment, nullable=False),
        sa.Column("content", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "track_id", "part", name="pk_edits"),
        sa.ForeignKeyConstraint(
            ["user_id", "track_id"],
            ["access.user_id", "access.track_id"],
            name="fk_edits_user_id_track_id_access",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_edits_track_id", "edits", ["track_id"])
    op.create_table(
        "playlists",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("user_id", sa.String(100), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("notes", sa.Text, nullable=False),
        sa.Column("create_time", moment, nullable=False),
        sa.Column("change_time", moment, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_playlists"),
    )
    op.create_index("ix_playlists_user_time", "playlists", ["user_id", "create_time", "id"])
    op.create_table(
        "playlist_tracks",
        sa.Column("playlist_id", sa.String(32), nullable=False),
        sa.Column("track_id", sa.String(32), nullable=False),
        sa.Column("user_id", sa.String(100), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("playlist_id", "track_id", name="pk_playlist_tracks"),
        sa.ForeignKeyConstraint(
            ["playlist_id"], ["playlists.id"], name="fk_playlist_tracks_playlist_id_playlists", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id", "track_id"],
            ["access.user_id", "access.track_id"],
            name="fk_playlist_tracks_user_id_track_id_access",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_playlist_tracks_position", "playlist_tracks", ["playlist_id", "position"])
    op.create_index("ix_playlist_tracks_user_track", "playlist_tracks", ["user_id", "track_id"])
    op.create_table(
        "stored_kinds",
        sa.Column("prefix", sa.String(40), nullable=False),
        sa.Column("object_count", sa.BigInteger, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("count_time", moment, nullable=False),
        sa.PrimaryKeyConstraint("prefix", name="pk_stored_kinds"),
    )


def _add(table: str, *columns: sa.Column[Any]) -> None:
    for column in columns:
        op.add_column(table, column)


def _sorted_text(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def _fill_summaries() -> None:
    """Fills in the summaries of existing analyses."""
    analyses = sa.table(
        "analyses",
        sa.column("track_id", sa.String),
        sa.column("part", sa.String),
        sa.column("content", sa.JSON),
        sa.column("summary", sa.JSON),
    )
    change = (
        sa.update(analyses)
        .where(analyses.c.track_id == sa.bindparam("of_track"), analyses.c.part == sa.bindparam("of_part"))
        .values(summary=sa.bindparam("new"))
    )
    query = sa.select(analyses.c.track_id, analyses.c.part, analyses.c.content)
    for rows in _batches(query, analyses.c.track_id, analyses.c.part):
        op.get_bind().execute(
            change,
            [
                {
                    "of_track": row.track_id,
                    "of_part": row.part,
                    "new": {name: value for name, value in row.content.items() if not isinstance(value, list)},
                }
                for row in rows
            ],
        )


def _fill_list_columns() -> None:
    """Fills in the columns by which lists are sorted and filtered."""
    tracks = sa.table("tracks", *map(sa.column, ("id", "title", "artist", "duration_seconds")))
    access = sa.table(
        "access",
        *map(
            sa.column,
            (
                *("user_id", "track_id", "sort_title", "sort_artist", "search_text"),
                *("tempo_bpm", "key_number", "duration_seconds"),
            ),
        ),
    )
    analyses = sa.table("analyses", sa.column("track_id"), sa.column("part", sa.String), sa.column("summary", sa.JSON))
    beats, key = analyses.alias(), analyses.alias()
    query = (
        sa.select(
            access.c.user_id,
            access.c.track_id,
            tracks.c.title,
            tracks.c.artist,
            tracks.c.duration_seconds,
            beats.c.summary.label("beats"),
            key.c.summary.label("key"),
        )
        .select_from(access)
        .join(tracks, tracks.c.id == access.c.track_id)
        .outerjoin(beats, sa.and_(beats.c.track_id == access.c.track_id, beats.c.part == "beats"))
        .outerjoin(key, sa.and_(key.c.track_id == access.c.track_id, key.c.part == "key"))
    )
    change = sa.update(access).where(
        access.c.user_id == sa.bindparam("of_user"), access.c.track_id == sa.bindparam("of_track")
    )
    names = ("sort_title", "sort_artist", "search_text", "tempo_bpm", "key_number", "duration_seconds")
    change = change.values({name: sa.bindparam(f"new_{name}") for name in names})
    for rows in _batches(query, access.c.user_id, access.c.track_id):
        op.get_bind().execute(
            change,
            [
                {
                    "of_user": row.user_id,
                    "of_track": row.track_id,
                    "new_sort_title": _fold(row.title)[:SORTED],
                    "new_sort_artist": f"{_fold(row.artist)[:SORTED]}\x01{_fold(row.title)[:SORTED]}",
                    "new_search_text": f"{_fold(row.title)}\n{_fold(row.artist)}",
                    "new_tempo_bpm": float((row.beats or {}).get("tempo", {}).get("bpm", 0.0)),
                    "new_key_number": _key_number(row.key or {}),
                    "new_duration_seconds": row.duration_seconds,
                }
                for row in rows
            ],
        )


def _batches(query: sa.Select[Any], *key: sa.ColumnElement[Any]) -> Iterator[Sequence[sa.Row[Any]]]:
    """Yields the rows of a query in batches. Its first columns are the key, which the caller must not change."""
    page = query.order_by(*key).limit(BATCH)
    rows = op.get_bind().execute(page).all()
    while rows:
        yield rows
        rows = op.get_bind().execute(page.where(sa.tuple_(*key) > sa.tuple_(*rows[-1][: len(key)]))).all()


def _fold(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    plain = "".join(character for character in decomposed if unicodedata.category(character) != "Mn")
    return " ".join(plain.replace("\u2019", "'").split())


def _key_number(key: dict[str, Any]) -> int:
    tonic, mode = key.get("tonic", ""), key.get("mode", "")
    if not re.fullmatch(r"[A-G][#b]?", tonic) or mode not in ("major", "minor"):
        return -1
    pitch: int = (PITCH_CLASSES[tonic[0]] + tonic.count("#") - tonic.count("b")) % 12
    return pitch + (12 if mode == "minor" else 0)
