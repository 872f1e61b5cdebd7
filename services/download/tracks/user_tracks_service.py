"""The RPCs on a user's tracks: lists, names, favourites, notes, deleting and restoring, corrected parts."""

import contextlib
from abc import abstractmethod
from typing import Any

from services.common.errors import InvalidInputError, PreconditionError, UnavailableError
from services.common.jobs.queue import JobQueue
from services.common.limits import MAX_TITLE
from services.common.observe import audit
from services.common.parts import PART_NAMES, PARTS
from services.common.rpc.auth import require_user
from services.download.playlists.playlists import Playlists
from services.download.tracks.edits import checked_part
from services.download.tracks.listing import read_listing
from services.download.tracks.messages import track_message
from services.download.tracks.paging import page_size
from services.download.tracks.repository import TrackRepository
from services.download.tracks.results import TrackData
from services.download.tracks.text import checked_notes, checked_text
from services.download.tracks.user_tracks import UserTracks, no_such_track
from services.download.upkeep.trash import Trash
from stemtube.download.v1 import download_pb2 as pb


class ShelfRpcs:
    """Part of the servicer."""

    _library: TrackRepository
    _user_tracks: UserTracks
    _playlists: Playlists
    _trash: Trash
    _jobs: JobQueue

    async def GetTrack(self, request: pb.GetTrackRequest, _context: Any) -> pb.GetTrackResponse:
        data = await self._track(require_user().subject, request.track_id, computed=request.computed)
        return pb.GetTrackResponse(track=track_message(data))

    async def ListTracks(self, request: pb.ListTracksRequest, _context: Any) -> pb.ListTracksResponse:
        user = require_user().subject
        size = page_size(request.page_size)
        listing = read_listing(request)
        if request.playlist_id:
            await self._playlists.get(user, request.playlist_id)
        found = await self._user_tracks.tracks(user, listing, listing.read(request.page_token), size + 1)
        response = pb.ListTracksResponse(tracks=[track_message(data, summary=True) for data, _ in found[:size]])
        if len(found) > size:
            last, value = found[size - 1]
            response.next_page_token = listing.token(value, last.track.id)
        return response

    async def UpdateTrack(self, request: pb.UpdateTrackRequest, _context: Any) -> pb.UpdateTrackResponse:
        changes: dict[str, Any] = {}
        if request.HasField("title"):
            changes["title"] = checked_text("title", request.title.strip(), MAX_TITLE)
        if request.HasField("artist"):
            changes["artist"] = checked_text("artist", request.artist.strip(), MAX_TITLE, may_be_empty=True)
        if request.HasField("favourite"):
            changes["favourite"] = request.favourite
        if request.HasField("notes"):
            changes["notes"] = checked_notes(request.notes)
        data = await self._user_tracks.update(require_user().subject, request.track_id, changes)
        return pb.UpdateTrackResponse(track=track_message(data, summary=True))

    async def DeleteTrack(self, request: pb.DeleteTrackRequest, _context: Any) -> pb.DeleteTrackResponse:
        user = require_user().subject
        await self._user_tracks.remove(user, request.track_id, for_good=request.permanently)
        for record in await self._jobs.unfinished(user):
            if record.subject == request.track_id:
                await self._cancel(record.id)
        with contextlib.suppress(UnavailableError):  # the next cleanup does it, once the store is there
            await self._trash.empty(user, request.track_id)
        audit.record("track deleted", track_id=request.track_id, permanently=request.permanently)
        return pb.DeleteTrackResponse()

    async def RestoreTrack(self, request: pb.RestoreTrackRequest, _context: Any) -> pb.RestoreTrackResponse:
        data = await self._user_tracks.restore(require_user().subject, request.track_id)
        return pb.RestoreTrackResponse(track=track_message(data, summary=True))

    async def EditPart(self, request: pb.EditPartRequest, _context: Any) -> pb.EditPartResponse:
        user = require_user().subject
        track = (await self._track(user, request.track_id)).track
        if not track.content_hash:
            raise PreconditionError("The track's audio has not arrived yet.", "TRACK_NOT_READY")
        part, content = checked_part(request, track.duration_seconds)
        await self._user_tracks.edit(user, track.id, part, content)
        return pb.EditPartResponse(track=track_message(await self._track(user, track.id)))

    async def RevertPart(self, request: pb.RevertPartRequest, _context: Any) -> pb.RevertPartResponse:
        user = require_user().subject
        if request.part not in PART_NAMES:
            raise InvalidInputError("part is one of " + ", ".join(PARTS), "BAD_REQUEST")
        await self._user_tracks.revert(user, request.track_id, PART_NAMES[request.part], to_shared=request.to_shared)
        return pb.RevertPartResponse(track=track_message(await self._track(user, request.track_id)))

    async def _track(self, user: str, track_id: str, *, computed: bool = False) -> TrackData:
        data = await self._library.track(track_id, user, computed=computed)
        if data is None:
            raise no_such_track()
        return data

    @abstractmethod
    async def _cancel(self, job_id: str) -> None:
        """Cancels a job."""
