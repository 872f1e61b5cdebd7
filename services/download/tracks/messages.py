"""Converts the library's data to the contracts' messages."""

import importlib.metadata
from typing import Any

from google.protobuf.json_format import ParseDict

from services.common.harte import triad
from services.common.jobs.messages import job_message, timestamp
from services.common.jobs.records import JobRecord
from services.common.parts import PART_NUMBERS
from services.download.pipeline.progress import job_parts
from services.download.tables import Access, ObjectState, OwnStem
from services.download.tracks.results import TrackData
from stemtube.analysis.v1 import music_pb2
from stemtube.common.v1 import provenance_pb2
from stemtube.download.v1 import link_pb2, track_job_pb2, track_pb2


def track_message(data: TrackData, *, summary: bool = False) -> track_pb2.Track:
    """Makes the message of a track.

    A summary leaves out tuning, beats, regions of the key, chords, sections and lyrics.
    """
    track = data.track
    path = f"/api/v1/tracks/{track.id}"
    message = track_pb2.Track(
        id=track.id,
        title=data.title,
        artist=data.artist,
        source_url=track.url,
        source=track.source,
        license=track.license,
        cover=f"{path}/cover" if data.has(track.cover_key) else "",
        create_time=timestamp(track.create_time.timestamp()),
        stems=[
            track_pb2.TrackStem(
                name=stem.name,
                model=stem.model,
                duration_seconds=stem.duration_seconds,
                sample_rate_hz=stem.sample_rate_hz,
                silent=stem.silent,
                gain=stem.gain,
                own=isinstance(stem, OwnStem),
                audio=f"{path}/stems/{stem.model}/{stem.name}",
                peaks=f"{path}/stems/{stem.model}/{stem.name}/peaks" if data.has(stem.peaks_key) else "",
                made_by=ParseDict(stem.made_by, provenance_pb2.Provenance()),
                fault=_fault_message(data.faults.get(stem.audio_key)),
            )
            for stem in data.stems
        ],
        fault=_fault_message(data.faults.get(track.audio_key)),
        file_notes=[track_pb2.FileNote(**note) for note in track.file_notes or ()],
    )
    if data.access is not None:
        _add_own(message, data, data.access)
    if track.audio_key:
        message.duration_seconds = track.duration_seconds
        message.sample_rate_hz = track.sample_rate_hz
        message.channels = track.channels
        message.loudness_lufs = track.loudness_lufs
        message.audio = f"{path}/audio"
        message.peaks = f"{path}/peaks" if data.has(track.peaks_key) else ""
    _add_analyses(message, data.analyses, summary)
    return message


def _fault_message(state: ObjectState | None) -> track_pb2.ObjectFault | None:
    if state is None:
        return None
    if state.missing_since is not None:
        since, reason, text = state.missing_since, "OBJECT_MISSING", "The file is not in the object store."
    elif state.damaged_since is not None:
        since, reason = state.damaged_since, "OBJECT_DAMAGED"
        text = "The file is damaged: its bytes have changed. Upload the same file again to repair it."
    else:
        return None
    return track_pb2.ObjectFault(reason=reason, message=text, since=timestamp(since.timestamp()))


def _add_own(message: track_pb2.Track, data: TrackData, access: Access) -> None:
    """Adds a user's own fields of a track: original names, favourite, notes, edits and own parts."""
    message.original_title = data.track.title
    message.original_artist = data.track.artist
    message.offered_title = access.offered_title or ""
    message.offered_artist = access.offered_artist or ""
    message.favourite = access.favourite
    message.notes = access.notes
    for part, edit in sorted(data.edits.items()):
        message.edits.add(
            part=PART_NUMBERS[part],
            edit_time=timestamp(edit.edit_time.timestamp()),
            computed_since=edit.computed_since,
        )
    message.own_parts.extend(sorted(PART_NUMBERS[part] for part in data.own))
    if access.remove_time is not None:
        message.delete_time.FromDatetime(access.remove_time)


def _add_analyses(message: track_pb2.Track, analyses: dict[str, dict[str, Any]], summary: bool) -> None:
    def parse(part: str, into: Any) -> Any:
        return ParseDict(analyses[part], into, ignore_unknown_fields=True)

    if "beats" in analyses:
        beats = parse("beats", music_pb2.Beats())
        message.tempo.CopyFrom(beats.tempo)
        message.beats_per_bar = beats.beats_per_bar
        message.first_downbeat = beats.first_downbeat
        message.made_by["beats"].CopyFrom(beats.made_by)
        if not summary:
            message.beats.extend(beats.beats)
    if "key" in analyses:
        message.key.CopyFrom(parse("key", music_pb2.Key()))
    if summary:
        return
    if "tuning" in analyses:
        message.tuning.CopyFrom(parse("tuning", music_pb2.Tuning()))
    if "chords" in analyses:
        chords = parse("chords", music_pb2.Chords())
        message.chords.extend(chords.chords)
        for chord in message.chords:
            # Set here, because edits and older results have no triads.
            chord.triad = triad(chord.label)
        message.made_by["chords"].CopyFrom(chords.made_by)
    if "structure" in analyses:
        structure = parse("structure", music_pb2.Structure())
        message.sections.extend(structure.sections)
        message.made_by["structure"].CopyFrom(structure.made_by)
    if "lyrics" in analyses:
        message.lyrics.CopyFrom(parse("lyrics", music_pb2.Lyrics()))


def song_message(song: dict[str, Any]) -> link_pb2.Song:
    """Makes the message of a song on a site, from a `services.download.fetching.sites.Song` as JSON."""
    return link_pb2.Song(**{name: song[name] for name in link_pb2.Song.DESCRIPTOR.fields_by_name})


def fetching_message(javascript: str | None) -> link_pb2.GetFetchingResponse:
    """Makes the answer of `GetFetching`.

    Args:
        javascript: path of the JavaScript runtime; None if there is none.
    """
    reason = "" if javascript else "YouTube's challenges need a JavaScript runtime: pip install deno"
    return link_pb2.GetFetchingResponse(
        version=importlib.metadata.version("yt-dlp"),
        javascript=provenance_pb2.Availability(available=bool(javascript), unavailable_reason=reason),
    )


def track_job_message(record: JobRecord) -> track_job_pb2.TrackJob:
    """Makes the message of a track's job."""
    return track_job_pb2.TrackJob(job=job_message(record), track_id=record.payload["track_id"], parts=job_parts(record))
