"""The RPCs on a user's tracks."""

import contextlib
from typing import Any

from services.common.errors import InvalidInputError, PreconditionError, UnavailableError
from services.common.jobs.records import JobRecord
from services.common.limits import MAX_TITLE
from services.common.observe import audit
from services.common.parts import PART_NAMES, PARTS
from services.common.rpc.auth import Identity, require_user
from services.download.fetching.link_tracks import LinkAdder
from services.download.pipeline.admission import Admission
from services.download.pipeline.submitting import TrackWork
from services.download.pipeline.track_jobs import TrackJobs
from services.download.playlists.playlists import Playlists
from services.download.tracks.edits import checked_part
from services.download.tracks.listing import read_listing
from services.download.tracks.messages import track_job_message, track_message
from services.download.tracks.paging import page_size
from services.download.tracks.repository import TrackRepository
from services.download.tracks.results import expect_audio
from services.download.tracks.text import checked_notes, checked_text, without_directions
from services.download.tracks.user_tracks import UserTracks
from services.download.upkeep.trash import Trash
from stemtube.download.v1 import track_pb2 as pb
from stemtube.download.v1 import track_pb2_grpc


class TrackService(track_pb2_grpc.TrackServiceServicer):
    """The servicer. The contract describes each RPC and its errors.

    Args:
        tracks: the tracks of all users.
        user_tracks: users' lists, names, edits and deleted tracks.
        playlists: filter lists.
        trash: removes deleted tracks.
        links: adds links.
        jobs: starts and cancels jobs.
        admission: checks quotas and waiting jobs.
    """

    def __init__(
        self,
        tracks: TrackRepository,
        user_tracks: UserTracks,
        playlists: Playlists,
        trash: Trash,
        links: LinkAdder,
        jobs: TrackJobs,
        admission: Admission,
    ) -> None:
        self._tracks = tracks
        self._user_tracks = user_tracks
        self._playlists = playlists
        self._trash = trash
        self._links = links
        self._jobs = jobs
        self._admission = admission

    async def CreateTrack(self, request: pb.CreateTrackRequest, _context: Any) -> pb.CreateTrackResponse:
        caller = require_user()
        async with self._jobs.claimed(caller.subject, request) as known:
            record = known or await self._create_track(caller, request)
            data = await self._tracks.track_of(caller.subject, record.subject)
            return pb.CreateTrackResponse(track=track_message(data), job=track_job_message(record))

    async def GetTrack(self, request: pb.GetTrackRequest, _context: Any) -> pb.GetTrackResponse:
        user = require_user().subject
        data = await self._tracks.track_of(user, request.track_id, computed=request.computed)
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
            changes["title"] = checked_text("title", without_directions(request.title), MAX_TITLE)
        if request.HasField("artist"):
            changes["artist"] = checked_text("artist", without_directions(request.artist), MAX_TITLE, may_be_empty=True)
        if request.HasField("favourite"):
            changes["favourite"] = request.favourite
        if request.HasField("notes"):
            changes["notes"] = checked_notes(request.notes)
        data = await self._user_tracks.update(require_user().subject, request.track_id, changes)
        return pb.UpdateTrackResponse(track=track_message(data, summary=True))

    async def DeleteTrack(self, request: pb.DeleteTrackRequest, _context: Any) -> pb.DeleteTrackResponse:
        user = require_user().subject
        await self._user_tracks.remove(user, request.track_id, for_good=request.permanently)
        await self._jobs.cancel_all(user, request.track_id)
        with contextlib.suppress(UnavailableError):  # maintenance does it when the store is available
            await self._trash.empty(user, request.track_id)
        audit.record("track deleted", track_id=request.track_id, permanently=request.permanently)
        return pb.DeleteTrackResponse()

    async def RestoreTrack(self, request: pb.RestoreTrackRequest, _context: Any) -> pb.RestoreTrackResponse:
        data = await self._user_tracks.restore(require_user().subject, request.track_id)
        return pb.RestoreTrackResponse(track=track_message(data, summary=True))

    async def EditPart(self, request: pb.EditPartRequest, _context: Any) -> pb.EditPartResponse:
        user = require_user().subject
        track = (await self._tracks.track_of(user, request.track_id)).track
        if not track.content_hash:
            raise PreconditionError("The track's audio has not arrived yet.", "TRACK_NOT_READY")
        part, content = checked_part(request, track.duration_seconds)
        await self._user_tracks.edit(user, track.id, part, content)
        return pb.EditPartResponse(track=track_message(await self._tracks.track_of(user, track.id)))

    async def RevertPart(self, request: pb.RevertPartRequest, _context: Any) -> pb.RevertPartResponse:
        user = require_user().subject
        if request.part not in PART_NAMES:
            raise InvalidInputError("part must be one of " + ", ".join(PARTS), "BAD_REQUEST")
        await self._user_tracks.revert(user, request.track_id, PART_NAMES[request.part], to_shared=request.to_shared)
        return pb.RevertPartResponse(track=track_message(await self._tracks.track_of(user, request.track_id)))

    async def ProcessTrack(self, request: pb.ProcessTrackRequest, _context: Any) -> pb.ProcessTrackResponse:
        user = require_user().subject
        async with self._jobs.claimed(user, request) as known:
            record = known or await self._process_track(user, request)
            return pb.ProcessTrackResponse(job=track_job_message(record))

    async def _create_track(self, caller: Identity, request: pb.CreateTrackRequest) -> JobRecord:
        plan = await self._jobs.plan(request)
        url = await self._links.checked(caller.subject, request.url)
        track, grant, use_cookies = await self._links.add(caller, url)
        work = TrackWork(track.id, plan, request.options.priority, again=False, use_cookies=use_cookies, url=url)
        return await self._jobs.submit_missing(caller.subject, work, request, grant)

    async def _process_track(self, user: str, request: pb.ProcessTrackRequest) -> JobRecord:
        expect_audio(await self._tracks.track_of(user, request.track_id))
        if not (request.options.separations or request.options.analyses):
            raise InvalidInputError("options must name the parts to make again", "BAD_REQUEST")
        plan = await self._jobs.plan(request)
        await self._admission.expect_room(user)
        work = TrackWork(request.track_id, plan, request.options.priority, again=True)
        return await self._jobs.submit(user, work, request)
