"""The RPCs on playlists."""

from datetime import UTC, datetime
from typing import Any

from services.common.jobs.messages import timestamp
from services.common.limits import MAX_PLAYLIST_NAME
from services.common.observe import audit
from services.common.rpc.auth import require_user
from services.download.playlists.playlists import PlaylistData, Playlists
from services.download.tracks.paging import make_token, page_size, read_token
from services.download.tracks.text import checked_notes, checked_text
from stemtube.download.v1 import playlist_pb2 as pb
from stemtube.download.v1 import playlist_pb2_grpc

SCOPE = "playlists"


class PlaylistService(playlist_pb2_grpc.PlaylistServiceServicer):
    """The servicer. The contract describes each RPC and its errors.

    Args:
        playlists: the playlists of all users.
    """

    def __init__(self, playlists: Playlists) -> None:
        self._playlists = playlists

    async def CreatePlaylist(self, request: pb.CreatePlaylistRequest, _context: Any) -> pb.CreatePlaylistResponse:
        data = await self._playlists.create(
            require_user().subject, _name(request.name), checked_notes(request.notes), request.track_ids
        )
        return pb.CreatePlaylistResponse(playlist=playlist_message(data))

    async def ListPlaylists(self, request: pb.ListPlaylistsRequest, _context: Any) -> pb.ListPlaylistsResponse:
        size = page_size(request.page_size)
        token = read_token(request.page_token, float, SCOPE)
        before = (datetime.fromtimestamp(token[0], UTC), token[1]) if token else None
        found = await self._playlists.page(require_user().subject, before, size + 1)
        response = pb.ListPlaylistsResponse(playlists=[playlist_message(data) for data in found[:size]])
        if len(found) > size:
            last = found[size - 1].playlist
            response.next_page_token = make_token(last.create_time.timestamp(), last.id, SCOPE)
        return response

    async def GetPlaylist(self, request: pb.GetPlaylistRequest, _context: Any) -> pb.GetPlaylistResponse:
        data = await self._playlists.get(require_user().subject, request.playlist_id)
        return pb.GetPlaylistResponse(playlist=playlist_message(data))

    async def UpdatePlaylist(self, request: pb.UpdatePlaylistRequest, _context: Any) -> pb.UpdatePlaylistResponse:
        data = await self._playlists.update(
            require_user().subject,
            request.playlist_id,
            name=_name(request.name) if request.HasField("name") else None,
            notes=checked_notes(request.notes) if request.HasField("notes") else None,
            track_ids=list(request.tracks.track_ids) if request.HasField("tracks") else None,
            revision=request.revision,
        )
        return pb.UpdatePlaylistResponse(playlist=playlist_message(data))

    async def AddPlaylistTracks(
        self, request: pb.AddPlaylistTracksRequest, _context: Any
    ) -> pb.AddPlaylistTracksResponse:
        data = await self._playlists.add(require_user().subject, request.playlist_id, list(request.track_ids))
        return pb.AddPlaylistTracksResponse(playlist=playlist_message(data))

    async def DeletePlaylist(self, request: pb.DeletePlaylistRequest, _context: Any) -> pb.DeletePlaylistResponse:
        await self._playlists.remove(require_user().subject, request.playlist_id)
        audit.record("playlist deleted", playlist=request.playlist_id)
        return pb.DeletePlaylistResponse()


def playlist_message(data: PlaylistData) -> pb.Playlist:
    """A playlist as a message."""
    playlist = data.playlist
    return pb.Playlist(
        id=playlist.id,
        name=playlist.name,
        notes=playlist.notes,
        create_time=timestamp(playlist.create_time.timestamp()),
        change_time=timestamp(playlist.change_time.timestamp()),
        revision=playlist.revision,
        track_count=data.track_count,
        track_ids=data.track_ids,
    )


def _name(name: str) -> str:
    return checked_text("name", name.strip(), MAX_PLAYLIST_NAME)
