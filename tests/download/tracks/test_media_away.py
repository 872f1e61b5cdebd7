"""While the store is unavailable, requests for media get UNAVAILABLE, not NOT_FOUND."""

from pathlib import Path

import pytest

from services.common.errors import NotFoundError, UnavailableError
from services.common.rpc.auth import Identity, set_caller
from services.download.config import DownloadSettings
from songs.small_songs import music
from stemtube.download.v1 import media_pb2 as pb
from tests.common.audio_files import with_soundfile
from tests.download.conftest import RunningLibrary
from tests.download.rpcs import running_servicers

AUDIO, PEAKS, COVER = pb.MEDIA_KIND_AUDIO, pb.MEDIA_KIND_PEAKS, pb.MEDIA_KIND_COVER


async def test_media_are_unavailable_while_the_store_is(
    library: RunningLibrary, settings: DownloadSettings, tmp_path: Path
) -> None:
    track = await library.upload("anna", with_soundfile(tmp_path / "song.wav", music(2)))
    vocals = {"name": "vocals", "audio_key": track.audio_key, "peaks_key": track.peaks_key, "duration_seconds": 2.0}
    facts = {"sample_rate_hz": 44_100, "silent": False, "gain": 1.0}
    await library.keep_stems(track.id, [vocals | facts])
    stem = {"model": "spleeter_2stems", "stem": "vocals"}
    requests = [
        pb.GetMediaRequest(track_id=track.id, kind=AUDIO),
        pb.GetMediaRequest(track_id=track.id, kind=PEAKS),
        pb.GetMediaRequest(track_id=track.id, kind=AUDIO, format="mp3"),
        pb.GetMediaRequest(track_id=track.id, kind=AUDIO, **stem),
        pb.GetMediaRequest(track_id=track.id, kind=PEAKS, **stem),
    ]
    set_caller(Identity("anna", "anna", "user"))
    async with running_servicers(library, settings) as servicers:
        root = settings.data_dir / "objects"
        root.rename(tmp_path / "away")
        root.mkdir()  # the mount point
        for request in requests:
            with pytest.raises(UnavailableError) as away:
                await servicers.media.GetMedia(request, None)
            assert away.value.reason == "STORE_AWAY"
        with pytest.raises(NotFoundError):
            await servicers.media.GetMedia(pb.GetMediaRequest(track_id=track.id, kind=COVER), None)
        root.rmdir()
        (tmp_path / "away").rename(root)
        for request in requests:
            assert (await servicers.media.GetMedia(request, None)).key
