"""A library without a job queue, to which tests add songs with given results."""

import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from services.common.storage.database import Database
from services.download.playlists.playlists import Playlists
from services.download.tracks.listing import read_listing
from services.download.tracks.repository import AudioFacts, SongFacts, TrackRepository
from services.download.tracks.results import TrackData
from services.download.tracks.user_tracks import UserTracks
from services.download.tracks.versions import Versions
from stemtube.download.v1 import track_pb2 as pb


@dataclass(slots=True)
class SongLibrary:
    database: Database
    grace: timedelta = timedelta(days=7)

    @property
    def tracks(self) -> TrackRepository:
        return TrackRepository(self.database)

    @property
    def user_tracks(self) -> UserTracks:
        return UserTracks(self.database, self.grace)

    @property
    def playlists(self) -> Playlists:
        return Playlists(self.database)

    async def add(
        self, user: str, title: str, artist: str = "", *, bpm: float = 0.0, key: str = "", seconds: float = 60.0
    ) -> str:
        """Adds an upload of a user and returns its id."""
        name = uuid.uuid4().hex
        facts = AudioFacts(f"originals/{name}", f"peaks/{name}", "", name, "flac", seconds, 44_100, 2, -12.0)
        track, _ = await self.tracks.add_upload(user, SongFacts(title, artist), facts)
        if bpm:
            await self.keep_part(user, track.id, "beats", beats(bpm))
        if key:
            tonic, mode = key.split()
            await self.keep_part(user, track.id, "key", {"tonic": tonic, "mode": mode})
        return track.id

    async def keep_part(
        self, user: str, track_id: str, part: str, content: dict[str, Any], *, own: bool = False
    ) -> None:
        """Keeps a result of a user's job: the first one of its kind, or one that the user has chosen."""
        await Versions(self.database).keep_part(user, track_id, part, content, by_hand=own, again=own)

    async def page(self, user: str, token: str = "", size: int = 50, **asked: Any) -> tuple[list[TrackData], str]:
        """A page of a list as the RPC makes it, and the token of the next page."""
        listing = read_listing(pb.ListTracksRequest(**asked))
        found = await self.user_tracks.tracks(user, listing, listing.read(token), size + 1)
        following = listing.token(found[size - 1][1], found[size - 1][0].track.id) if len(found) > size else ""
        return [data for data, _ in found[:size]], following

    async def titles(self, user: str, **asked: Any) -> list[str]:
        found, _ = await self.page(user, **asked)
        return [data.title for data in found]


def beats(bpm: float) -> dict[str, Any]:
    return {"tempo": {"bpm": bpm, "confidence": 0.5}, "beats": [{"time": 1.0}], "beatsPerBar": 4}
