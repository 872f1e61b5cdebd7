"""Missing peaks and pictures are made again. Those that cannot be made again are marked, and in time left out."""

from datetime import timedelta
from pathlib import Path

import pytest
from mutagen.flac import FLAC, Picture

from services.common.errors import NotFoundError
from services.common.rpc.auth import Identity, set_caller
from services.download.config import DownloadSettings
from services.download.tables import Track
from services.download.tracks.messages import track_message
from services.download.upkeep.remaking import Remaker
from services.download.upkeep.sweep import Report, Sweeper
from services.download.upkeep.usage import Usage
from songs.small_songs import music
from stemtube.download.v1 import media_pb2 as pb
from stemtube.download.v1 import track_pb2
from tests.common.audio_files import png, with_soundfile
from tests.download.conftest import RunningLibrary
from tests.download.rpcs import running_servicers

NOW, DAY = timedelta(0), timedelta(days=1)


@pytest.fixture
async def track(library: RunningLibrary, tmp_path: Path) -> Track:
    """A song with a picture, and with a stem that is its own sound."""
    path = with_soundfile(tmp_path / "song.flac", music(2))
    file = FLAC(path)
    picture = Picture()
    picture.data, picture.mime, picture.type = png(), "image/png", 3
    file.add_picture(picture)
    file.save()
    track = await library.upload("anna", path)
    stem = {"name": "vocals", "audio_key": "stems/a/vocals.flac", "peaks_key": "stems/a/vocals.peaks"}
    await library.objects.copy(track.audio_key, stem["audio_key"])
    await library.objects.copy(track.peaks_key, stem["peaks_key"])
    facts = {"duration_seconds": 2.0, "sample_rate_hz": 44_100, "silent": False, "gain": 1.0}
    await library.keep_stems(track.id, [stem | facts])
    return track


async def sweep(library: RunningLibrary, *, missing: timedelta = DAY, dry_run: bool = False) -> Report:
    database = library.tracks.database
    remaker = Remaker(library.objects, library.tracks, library.acquirer.inspector)
    sweeper = Sweeper(
        library.objects,
        database,
        Usage(database, library.objects, 0),
        remaker,
        older_than=DAY,
        stems_older_than=DAY,
        missing_for=missing,
    )
    return await sweeper.sweep(dry_run=dry_run)


async def shown(library: RunningLibrary, track: Track) -> track_pb2.Track:
    return track_message(await library.tracks.track_of("anna", track.id))


async def test_missing_peaks_and_pictures_are_made_again(
    library: RunningLibrary, settings: DownloadSettings, track: Track
) -> None:
    root = settings.data_dir / "objects"
    paths = [root / key for key in (track.peaks_key, track.cover_key, "stems/a/vocals.peaks")]
    before = [path.read_bytes() for path in paths]
    keys = await library.keys()
    for path in paths:
        path.unlink()
    report = await sweep(library, dry_run=True)
    assert (report.restored_count, report.missing_count) == (0, 3)
    report = await sweep(library)
    assert (report.restored_count, report.missing_count, report.record_count) == (3, 0, 0)
    assert [path.read_bytes() for path in paths] == before
    assert await library.keys() == keys
    for key in (track.audio_key, track.peaks_key):  # the original may come back, or be repaired
        (root / key).unlink()
    report = await sweep(library)
    assert (report.restored_count, report.missing_count) == (0, 2)
    assert await library.keys() == [key for key in keys if key not in (track.audio_key, track.peaks_key)]


async def test_a_picture_that_cannot_be_made_again_is_left_out(
    library: RunningLibrary, settings: DownloadSettings, track: Track
) -> None:
    """Its file does not have it: it came from a link's site."""
    async with library.tracks.database.write() as session:
        kept = await session.get(Track, track.id)
        assert kept is not None
        kept.cover_key = key = f"covers/{'0' * 64}.png"
    await library.objects.put(key, png())
    assert (await sweep(library)).missing_count == 0
    assert (await shown(library, track)).cover
    await library.objects.delete(key)
    report = await sweep(library)
    assert (report.restored_count, report.missing_count) == (0, 1)
    assert report.missing[0].startswith(f"{track.id} {key} since ")
    assert not (await shown(library, track)).cover
    set_caller(Identity("anna", "anna", "user"))
    async with running_servicers(library, settings) as servicers:
        with pytest.raises(NotFoundError) as missing:
            await servicers.media.GetMedia(pb.GetMediaRequest(track_id=track.id, kind=pb.MEDIA_KIND_COVER), None)
    assert missing.value.reason == "NO_COVER"
    await library.objects.put(key, png())
    assert (await sweep(library)).missing_count == 0
    assert (await shown(library, track)).cover
    await library.objects.delete(key)
    assert (await sweep(library, missing=NOW)).record_count == 1
    assert (await library.tracks.track_of("anna", track.id)).track.cover_key == ""
    assert (await sweep(library)).missing_count == 0


async def test_peaks_of_a_file_that_cannot_be_read_are_left_out(
    library: RunningLibrary, settings: DownloadSettings, track: Track
) -> None:
    await library.objects.put("stems/a/vocals.flac", b"not sound")
    await library.objects.delete("stems/a/vocals.peaks")
    assert (await shown(library, track)).stems[0].peaks
    assert (await sweep(library)).missing_count == 1
    message = await shown(library, track)
    assert (message.stems[0].peaks, bool(message.stems[0].audio), bool(message.peaks)) == ("", True, True)
    set_caller(Identity("anna", "anna", "user"))
    async with running_servicers(library, settings) as servicers:
        request = pb.GetMediaRequest(
            track_id=track.id, kind=pb.MEDIA_KIND_PEAKS, model="spleeter_2stems", stem="vocals"
        )
        with pytest.raises(NotFoundError) as missing:
            await servicers.media.GetMedia(request, None)
    assert missing.value.reason == "NO_PEAKS"
