"""The RPCs on files of tracks: audio in several formats, peaks, pictures, stems of running separations."""

from typing import Any

from google.protobuf.json_format import ParseDict

from services.common import audio
from services.common.errors import InvalidInputError, NotFoundError
from services.common.file_names import file_name
from services.common.rpc.auth import require_user
from services.common.storage.objects import ObjectStore
from services.download.fetching.pictures import CONTENT_TYPES
from services.download.pipeline.track_jobs import TrackJobs
from services.download.tracks.conversions import Conversions
from services.download.tracks.repository import TrackRepository
from services.download.tracks.results import TrackData, expect_undamaged
from services.download.upkeep.trash import derived_key
from services.download.uploads.inspection import Inspector
from stemtube.download.v1 import media_pb2 as pb
from stemtube.download.v1 import media_pb2_grpc
from stemtube.separation.v1 import separation_pb2

PEAKS_TYPE = "application/octet-stream"
# Half of the gateway's deadline, so that there is time to answer that the client should try again later.
CONVERSION_WAIT_SECONDS = 60.0
CONTAINER_TYPES = {
    "mp3": "audio/mpeg",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "mp4": "audio/mp4",
    "matroska": "audio/webm",
    "ogg": "audio/ogg",
    "aiff": "audio/aiff",
}


class MediaService(media_pb2_grpc.MediaServiceServicer):
    """The servicer. The contract describes each RPC and its errors.

    Args:
        tracks: the tracks of all users.
        jobs: finds running separations.
        objects: the store of files.
        inspector: converts files.
        conversions: limits the cache of converted files.
    """

    def __init__(
        self,
        tracks: TrackRepository,
        jobs: TrackJobs,
        objects: ObjectStore,
        inspector: Inspector,
        conversions: Conversions,
    ) -> None:
        self._tracks = tracks
        self._jobs = jobs
        self._objects = objects
        self._inspector = inspector
        self._conversions = conversions

    async def GetMedia(self, request: pb.GetMediaRequest, _context: Any) -> pb.GetMediaResponse:
        user = require_user().subject
        data = await self._tracks.track_of(user, request.track_id)
        if request.kind == pb.MEDIA_KIND_COVER:
            cover = _cover(data)
            await self._objects.expect_right_store()
            return cover
        key, peaks_key, name, suffix = _media(data, request.model, request.stem)
        await self._objects.expect_right_store()
        if request.kind == pb.MEDIA_KIND_PEAKS:
            if not data.has(peaks_key):
                raise NotFoundError("The peaks are missing; they will be made again.", "NO_PEAKS")
            return pb.GetMediaResponse(key=peaks_key, content_type=PEAKS_TYPE, filename=f"{name}.peaks")
        expect_undamaged(data, key)
        wanted = next((known for known in audio.FORMATS if known == request.format), None)
        if wanted is None and request.format:
            known = ", ".join(audio.FORMATS)
            raise InvalidInputError(f"unknown format {request.format!r}; choose one of {known}", "UNKNOWN_FORMAT")
        if wanted is None or wanted == suffix:
            content_type = CONTAINER_TYPES.get(suffix, "application/octet-stream")
            return pb.GetMediaResponse(key=key, content_type=content_type, filename=f"{name}.{suffix}")
        return pb.GetMediaResponse(
            key=await self._convert(user, key, wanted),
            content_type=audio.CONTENT_TYPES[wanted],
            filename=name + audio.EXTENSIONS[wanted],
        )

    async def GetLiveStems(self, request: pb.GetLiveStemsRequest, _context: Any) -> pb.GetLiveStemsResponse:
        record = await self._jobs.get(require_user().subject, request.job_id)
        live = record.detail.get("live", {}).get(request.part)
        if not live:
            raise NotFoundError("No stems can be played yet, or they are complete.", "NO_SUCH_STEM")
        await self._objects.expect_right_store()
        return pb.GetLiveStemsResponse(live=ParseDict(live, separation_pb2.LiveStems()))

    async def _convert(self, user: str, key: str, wanted: str) -> str:
        derived = derived_key(key, wanted)
        if not await self._objects.exists(derived):
            await self._inspector.convert(user, key, wanted, derived, CONVERSION_WAIT_SECONDS)
            await self._conversions.note(derived)
        return derived


def _media(data: TrackData, model: str, stem_name: str) -> tuple[str, str, str, str]:
    """Audio key, peaks key, readable name and format of a track's original or of a stem."""
    title = _file_name(data)
    if not stem_name:
        if not data.track.audio_key:
            raise NotFoundError("The track's audio has not arrived yet.", "NO_SUCH_STEM")
        return data.track.audio_key, data.track.peaks_key, title, data.track.suffix
    for stem in data.stems:
        if (stem.model, stem.name) == (model, stem_name):
            return stem.audio_key, stem.peaks_key, f"{title} - {stem.name}", "flac"
    raise NotFoundError("There is no such stem.", "NO_SUCH_STEM")


def _cover(data: TrackData) -> pb.GetMediaResponse:
    key = data.track.cover_key
    if not data.has(key):
        raise NotFoundError("The track has no picture, or it is missing.", "NO_COVER")
    suffix = key.rpartition(".")[2]
    return pb.GetMediaResponse(key=key, content_type=CONTENT_TYPES[suffix], filename=f"{_file_name(data)}.{suffix}")


def _file_name(data: TrackData) -> str:
    name = f"{data.artist} - {data.title}" if data.artist else data.title
    return file_name(name)
