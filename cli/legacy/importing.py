"""Imports an installation of the old StemTube: `stemtube admin import-stemtube`."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console

from cli.legacy import results
from cli.legacy.installation import OldInstallation, OldTrack, OldUser, parse_json
from cli.legacy.services import ImportServices
from services.common import audio
from services.common.errors import StemTubeError
from stemtube.auth.v1 import import_pb2 as auth_import
from stemtube.download.v1 import import_pb2 as pb

# The model of separations for which the old StemTube did not store one.
UNKNOWN_MODEL = "stemtube"
KINDS = {
    "user": "users",
    "track": "tracks",
    "access": "tracks of users",
    "stem": "stems",
    "beats": "tempos, beats",
    "key": "keys",
    "chords": "chords",
    "structure": "sections",
    "lyrics": "lyrics",
    "tuning": "tunings",
}
TAKEN, PRESENT, SKIPPED = "taken", "present", "skipped"


@dataclass(slots=True)
class Report:
    """The outcome of an import.

    Attributes:
        counts: by kind and outcome.
        notes: skipped entries, with reasons.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def add(self, kind: str, outcome: str, count: int = 1) -> None:
        """Counts things that were imported or are present."""
        self.counts[kind, outcome] += count

    def skip(self, kind: str, what: str, why: str) -> None:
        """Counts something that was skipped, with the reason."""
        self.counts[kind, SKIPPED] += 1
        self.notes.append(f"{what}: {why}")


async def import_stemtube(
    old: OldInstallation, services: ImportServices, on_progress: Callable[[str], None], *, apply: bool
) -> Report:
    """Imports everything that is missing, or only reports it.

    Raises:
        ApiError: the services are away, or the signed-in user is not an admin.
    """
    report = Report()
    importer = _Importer(old, services, report, apply)
    await importer.import_users()
    for number, track in enumerate(old.tracks, start=1):
        on_progress(f"{number} of {len(old.tracks)}: {track.title or track.video_id}")
        await importer.import_track(track)
    for row in old.strays:
        report.skip("access", f"user {row.get('user_id')}", f"had a track {row.get('video_id')} that is not there")
    return report


def show_report(report: Report, console: Console, *, apply: bool) -> None:
    """Prints a report."""

    def show(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    for kind, name in KINDS.items():
        taken, present, skipped = (report.counts[kind, outcome] for outcome in (TAKEN, PRESENT, SKIPPED))
        if taken or present or skipped:
            show(f"{name:<16}{taken} {'taken' if apply else 'to take'}, {present} here already, {skipped} skipped")
    if report.notes:
        show("skipped or to be looked at:")
    for note in report.notes:
        show(f"  {note}")
    if not apply:
        show("Nothing was changed. Give --apply to take it over.")


class _Importer:
    def __init__(self, old: OldInstallation, services: ImportServices, report: Report, apply: bool) -> None:
        self._old = old
        self._services = services
        self._report = report
        self._apply = apply
        # Ids of imported or present users; empty in a dry run for a user who would be created.
        self._ids: dict[int, str] = {}
        self._names = {user.id: user.username for user in old.users}

    async def import_users(self) -> None:
        users = self._old.users
        answers = await self._services.import_users([_user_message(user) for user in users], dry_run=not self._apply)
        for user, answer in zip(users, answers, strict=True):
            if answer.outcome == auth_import.IMPORT_OUTCOME_REFUSED:
                self._report.skip("user", f"user {user.username!r}", answer.note)
                continue
            self._ids[user.id] = answer.user_id
            self._report.add("user", PRESENT if answer.outcome == auth_import.IMPORT_OUTCOME_PRESENT else TAKEN)
            if answer.note:
                self._report.notes.append(f"user {user.username!r}: {answer.note}")

    async def import_track(self, track: OldTrack) -> None:
        what = f"track {(track.title or track.video_id)!r}"
        owners = [self._ids[user_id] for user_id in track.user_ids if user_id in self._ids]
        for user_id in track.user_ids:
            if user_id not in self._ids:
                name = repr(self._names[user_id]) if user_id in self._names else user_id
                self._report.skip("access", what, f"user {name}, who has it, is not taken over")
        if not owners:
            self._report.skip("track", what, "nobody has it")
            return
        file = self._old.find(track.row.get("file_path"))
        if file is None:
            self._report.skip("track", what, f"its file is not there ({track.row.get('file_path') or 'none is named'})")
            return
        try:
            duration = (await asyncio.to_thread(audio.probe, file, audio.NO_LIMITS)).duration_seconds
            tracks = await self._tracks(track, owners, file)
        except (StemTubeError, OSError) as error:
            self._report.skip("track", what, _why(error))
            return
        if tracks:
            duration = tracks[0].duration_seconds
        await self._stems(track, what, tracks)
        for part, make in _PARTS.items():
            await self._part(part, make, track, what, tracks, duration)

    async def _tracks(self, track: OldTrack, owners: list[str], file: Path) -> list[pb.ImportedTrack]:
        """The tracks of the library for an old track; new ones are only imported if this is not a dry run."""
        link = "" if track.is_upload else track.link
        known = [owner for owner in owners if owner]
        found = pb.LookUpImportResponse()
        if known:
            sha256 = "" if link else await asyncio.to_thread(_sha256, file)
            found = await self._services.look_up(known, link, sha256)
        having = {imported.user_id for imported in found.tracks}
        lacking = [owner for owner in owners if owner not in having]
        tracks = list(found.tracks)
        if lacking and self._apply:
            header = pb.ImportTrackHeader(user_ids=lacking, source_url=link, title=track.title)
            tracks += await self._services.import_track(header, None if found.has_audio else file)
        self._report.add("track", TAKEN if lacking and not found.has_audio else PRESENT)
        self._report.add("access", TAKEN, len(lacking))
        self._report.add("access", PRESENT, len(having))
        return tracks

    async def _stems(self, track: OldTrack, what: str, tracks: list[pb.ImportedTrack]) -> None:
        try:
            paths = parse_json(track.row.get("stems_paths")) or {}
            if not isinstance(paths, dict):
                raise ValueError("it does not name files")
        except ValueError as error:
            self._report.skip("stem", f"{what}: stems", str(error))
            return
        model = str(track.row.get("extraction_model") or UNKNOWN_MODEL)
        for position, (name, path) in enumerate(paths.items()):
            lacking = [found.track_id for found in tracks if f"{model}/{name}" not in found.stems]
            if tracks and not lacking:
                self._report.add("stem", PRESENT)
                continue
            file = self._old.find(path)
            if file is None:
                self._report.skip("stem", f"{what}: stem {name}", f"its file is not there ({path})")
                continue
            header = pb.ImportStemHeader(track_ids=_unique(lacking), model=model, name=str(name), position=position)
            try:
                await asyncio.to_thread(audio.probe, file, audio.NO_LIMITS)
                if self._apply:
                    await self._services.import_stem(header, file)
                self._report.add("stem", TAKEN)
            except (StemTubeError, OSError) as error:
                self._report.skip("stem", f"{what}: stem {name}", _why(error))

    async def _part(
        self,
        part: str,
        make: Callable[[dict[str, Any], float], Any],
        track: OldTrack,
        what: str,
        tracks: list[pb.ImportedTrack],
        duration: float,
    ) -> None:
        lacking = _unique([found.track_id for found in tracks if part not in found.parts])
        try:
            content = make(track.row, duration)
            if content is None:
                return
            if tracks and not lacking:
                self._report.add(part, PRESENT)
                return
            if self._apply:
                await self._services.import_part(pb.ImportPartRequest(track_ids=lacking, **{part: content}))
            self._report.add(part, TAKEN)
        except (ValueError, StemTubeError) as error:
            self._report.skip(part, f"{what}: {part}", _why(error))


_PARTS: dict[str, Callable[[dict[str, Any], float], Any]] = {
    "beats": lambda row, duration: results.beats(
        row.get("detected_bpm"), row.get("beat_offset"), row.get("analysis_confidence"), duration
    ),
    "key": lambda row, _duration: results.key(row.get("detected_key"), row.get("analysis_confidence")),
    "chords": lambda row, duration: results.chords(parse_json(row.get("chords_data")), duration),
    "structure": lambda row, duration: results.structure(parse_json(row.get("structure_data")), duration),
    "lyrics": lambda row, duration: results.lyrics(parse_json(row.get("lyrics_data")), duration),
    "tuning": lambda _row, _duration: None,  # the old StemTube did not find it
}


def _user_message(user: OldUser) -> auth_import.UserToImport:
    message = auth_import.UserToImport(
        username=user.username, password_hash=user.password_hash, admin=user.admin, email=user.email
    )
    if user.create_time is not None:
        created = Timestamp()
        created.FromDatetime(user.create_time)
        message.create_time.CopyFrom(created)
    return message


def _unique(track_ids: list[str]) -> list[str]:
    """Track ids without repetitions, since all users of a link share one track."""
    return list(dict.fromkeys(track_ids))


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _why(error: Exception) -> str:
    return error.message if isinstance(error, StemTubeError) else str(error)
