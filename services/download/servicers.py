"""Creates the servicers of the library, each with the objects that it uses."""

import grpc.aio

from services.common.rpc.draining import Draining
from services.common.rpc.server import Service
from services.download.fetching.addresses import LinkChecker
from services.download.fetching.cookies import CookieRules
from services.download.fetching.link_tracks import LinkAdder
from services.download.fetching.service import LinkService
from services.download.importing.service import ImportService
from services.download.library import Library
from services.download.pipeline.admission import Admission
from services.download.pipeline.service import TrackJobService
from services.download.pipeline.track_jobs import TrackJobs
from services.download.playlists.service import PlaylistService
from services.download.tracks.media_service import MediaService
from services.download.tracks.service import TrackService
from services.download.upkeep.service import UpkeepService
from services.download.upkeep.trash import Remover
from services.download.uploads.client_streams import MAX_REQUEST_BYTES, ClientStreams
from services.download.uploads.service import UploadService
from stemtube.download.v1 import (
    import_pb2_grpc,
    link_pb2_grpc,
    media_pb2_grpc,
    playlist_pb2_grpc,
    track_job_pb2_grpc,
    track_pb2_grpc,
    upkeep_pb2_grpc,
    upload_pb2_grpc,
)

NAMES = tuple(
    f"stemtube.download.v1.{name}"
    for name in (
        "TrackService",
        "TrackJobService",
        "UploadService",
        "LinkService",
        "MediaService",
        "PlaylistService",
        "UpkeepService",
        "ImportService",
    )
)


class Servicers:
    """The servicers of a library.

    Args:
        library: the objects of the library.
        draining: ends streams when the server stops.
    """

    def __init__(self, library: Library, draining: Draining) -> None:
        section = library.settings.download
        tracks, queue, acquirer = library.tracks, library.queue, library.acquirer
        cookies = CookieRules(section)
        cookies.warn()
        remover = Remover(library.objects, tracks)
        jobs = TrackJobs(queue, library.pipeline, tracks, remover, library.choices, section.jobs_per_user)
        admission = Admission(library.objects, library.usage, queue, section.jobs_per_user)
        checker = LinkChecker(section.allowed_hosts)
        links = LinkAdder(tracks, library.usage, admission, cookies, checker)
        # Uploads and imports count together.
        streams = ClientStreams(section)
        self.tracks = TrackService(
            tracks, library.user_tracks, library.playlists, library.trash, links, jobs, admission
        )
        self.track_jobs = TrackJobService(queue, jobs, tracks, links, admission, draining)
        max_bytes = library.settings.limit.max_bytes
        self.uploads = UploadService(library.uploads, acquirer, tracks, jobs, admission, streams, max_bytes)
        self.links = LinkService(library.lookups, cookies, checker)
        self.media = MediaService(tracks, jobs, library.objects, acquirer.inspector, library.conversions)
        self.playlists = PlaylistService(library.playlists)
        self.upkeep = UpkeepService(library.usage, queue)
        self.imports = ImportService(library.importer, acquirer, streams, checker)

    def service(self) -> Service:
        """All servicers as one service of this process."""
        name, *further = NAMES
        return Service(name, self._register, further=tuple(further), max_request_bytes=MAX_REQUEST_BYTES)

    def _register(self, server: grpc.aio.Server) -> None:
        track_pb2_grpc.add_TrackServiceServicer_to_server(self.tracks, server)
        track_job_pb2_grpc.add_TrackJobServiceServicer_to_server(self.track_jobs, server)
        upload_pb2_grpc.add_UploadServiceServicer_to_server(self.uploads, server)
        link_pb2_grpc.add_LinkServiceServicer_to_server(self.links, server)
        media_pb2_grpc.add_MediaServiceServicer_to_server(self.media, server)
        playlist_pb2_grpc.add_PlaylistServiceServicer_to_server(self.playlists, server)
        upkeep_pb2_grpc.add_UpkeepServiceServicer_to_server(self.upkeep, server)
        import_pb2_grpc.add_ImportServiceServicer_to_server(self.imports, server)
