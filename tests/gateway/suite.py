"""Small services behind the gateway: real servers, interceptors and tokens, with a library in memory."""
# ruff: noqa: N802  # RPCs are named in the contracts

import asyncio
import hashlib
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from services.common.errors import (
    InvalidInputError,
    LimitExceededError,
    NotFoundError,
    StemTubeError,
    UnauthenticatedError,
)
from services.common.rpc import server
from services.common.rpc.auth import ALGORITHM, AUDIENCE, ISSUER, PublicKeys, TokenVerifier, require_user
from services.common.rpc.draining import Draining
from stemtube.auth.v1 import account_pb2, account_pb2_grpc, session_pb2, session_pb2_grpc, user_pb2
from stemtube.download.v1 import (
    media_pb2,
    media_pb2_grpc,
    track_job_pb2,
    track_job_pb2_grpc,
    track_pb2,
    track_pb2_grpc,
    upload_pb2,
    upload_pb2_grpc,
)
from stemtube.job.v1 import job_pb2
from stemtube.separation.v1 import separation_pb2

KEY = Ed25519PrivateKey.generate()
PASSWORD = "correct horse"
SESSIONS = "stemtube.auth.v1.SessionService"
ACCOUNTS = "stemtube.auth.v1.AccountService"
TRACKS = "stemtube.download.v1.TrackService"
TRACK_JOBS = "stemtube.download.v1.TrackJobService"
UPLOADS = "stemtube.download.v1.UploadService"
MEDIA = "stemtube.download.v1.MediaService"
PUBLIC = tuple(f"/{SESSIONS}/{rpc}" for rpc in ("Login", "Refresh", "Logout"))
QUEUED, RUNNING, SUCCEEDED = job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_RUNNING, job_pb2.JOB_STATE_SUCCEEDED
CREATED = Timestamp(seconds=1_700_000_000)


def token_of(user: str, lifetime: float = 60.0) -> str:
    """An access token as auth signs it."""
    now = time.time()
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": user, "kind": "user", "iat": now, "exp": now + lifetime}
    return jwt.encode(claims, KEY, algorithm=ALGORITHM, headers={"kid": "one"})


async def _keys() -> PublicKeys:
    return {"one": KEY.public_key()}


class Auth(session_pb2_grpc.SessionServiceServicer, account_pb2_grpc.AccountServiceServicer):
    """Users with one common password, and refresh tokens that work once."""

    def __init__(self) -> None:
        self.refresh_tokens: dict[str, str] = {}

    def register(self, grpc_server: grpc.aio.Server) -> None:
        session_pb2_grpc.add_SessionServiceServicer_to_server(self, grpc_server)
        account_pb2_grpc.add_AccountServiceServicer_to_server(self, grpc_server)

    def _session(self, user: str) -> session_pb2.Session:
        refresh_token = uuid.uuid4().hex
        self.refresh_tokens[refresh_token] = user
        return session_pb2.Session(
            access_token=token_of(user),
            expires_in=Duration(seconds=60),
            refresh_token=refresh_token,
            refresh_expires_in=Duration(seconds=3600),
            user=user_pb2.User(id=user, username=user),
        )

    async def Login(self, request: Any, context: Any) -> session_pb2.LoginResponse:
        if request.password != PASSWORD:
            raise UnauthenticatedError("Unknown user or wrong password.", "BAD_CREDENTIALS")
        return session_pb2.LoginResponse(session=self._session(request.username))

    async def Refresh(self, request: Any, context: Any) -> session_pb2.RefreshResponse:
        user = self.refresh_tokens.pop(request.refresh_token, None)
        if user is None:
            raise UnauthenticatedError("Sign in again.", "BAD_REFRESH_TOKEN")
        return session_pb2.RefreshResponse(session=self._session(user))

    async def Logout(self, request: Any, context: Any) -> session_pb2.LogoutResponse:
        self.refresh_tokens.pop(request.refresh_token, None)
        return session_pb2.LogoutResponse()

    async def GetMe(self, request: Any, context: Any) -> account_pb2.GetMeResponse:
        user = require_user().subject
        return account_pb2.GetMeResponse(user=user_pb2.User(id=user, username=user))


@dataclass
class Upload:
    """An upload as the library saw it."""

    header: upload_pb2.UploadHeader
    digest: Any = field(default_factory=hashlib.sha256)
    size: int = 0
    largest_chunk: int = 0
    ended: str = "open"


class Library(
    track_pb2_grpc.TrackServiceServicer,
    track_job_pb2_grpc.TrackJobServiceServicer,
    upload_pb2_grpc.UploadServiceServicer,
    media_pb2_grpc.MediaServiceServicer,
):
    """The tracks and jobs of each user, in memory; tests change the jobs."""

    def __init__(self, draining: Draining) -> None:
        self.draining = draining
        self.tracks: dict[str, dict[str, track_pb2.Track]] = defaultdict(dict)
        self.jobs: dict[str, track_job_pb2.TrackJob] = {}
        self.live = separation_pb2.LiveStems()
        self.media: dict[tuple[str, str, str, int, str], media_pb2.GetMediaResponse] = {}
        self.uploads: list[Upload] = []
        self.refuse_upload_at: int | None = None
        self.upload_pace = 0.0
        self.error: StemTubeError | None = None
        self.changed = asyncio.Condition()
        self.watchers = self.waiting = 0
        self.events: asyncio.Queue[track_job_pb2.WatchEventsResponse] = asyncio.Queue()
        self.metadata: dict[str, str] = {}

    def register(self, grpc_server: grpc.aio.Server) -> None:
        track_pb2_grpc.add_TrackServiceServicer_to_server(self, grpc_server)
        track_job_pb2_grpc.add_TrackJobServiceServicer_to_server(self, grpc_server)
        upload_pb2_grpc.add_UploadServiceServicer_to_server(self, grpc_server)
        media_pb2_grpc.add_MediaServiceServicer_to_server(self, grpc_server)

    def _seen(self, context: Any) -> str:
        self.metadata = dict(context.invocation_metadata())
        if self.error:
            raise self.error
        return require_user().subject

    def _track(self, user: str, track_id: str) -> track_pb2.Track:
        if track_id not in self.tracks[user]:
            raise NotFoundError("There is no such track.", "NO_SUCH_TRACK", track_id=track_id)
        return self.tracks[user][track_id]

    def _new_job(self, track_id: str) -> track_job_pb2.TrackJob:
        job = track_job_pb2.TrackJob(
            job=job_pb2.Job(id=uuid.uuid4().hex, kind="track", state=QUEUED, create_time=CREATED), track_id=track_id
        )
        self.jobs[job.job.id] = job
        return job

    async def set_progress(self, job_id: str, progress: float) -> None:
        job = self.jobs[job_id].job
        job.progress = progress
        job.state = SUCCEEDED if progress == 1.0 else RUNNING
        async with self.changed:
            self.changed.notify_all()

    async def CreateTrack(self, request: Any, context: Any) -> track_pb2.CreateTrackResponse:
        user = self._seen(context)
        if not request.url.startswith(("http://", "https://")):
            raise InvalidInputError("This is not an http(s) address.", "BAD_URL")
        track = track_pb2.Track(id=request.request_id or uuid.uuid4().hex, source_url=request.url, create_time=CREATED)
        self.tracks[user][track.id] = track
        return track_pb2.CreateTrackResponse(track=track, job=self._new_job(track.id))

    async def GetTrack(self, request: Any, context: Any) -> track_pb2.GetTrackResponse:
        return track_pb2.GetTrackResponse(track=self._track(self._seen(context), request.track_id))

    async def ListTracks(self, request: Any, context: Any) -> track_pb2.ListTracksResponse:
        tracks = list(self.tracks[self._seen(context)].values())
        if request.page_token and not request.page_token.isdecimal():
            raise InvalidInputError("This is no page.", "BAD_PAGE_TOKEN")
        first = int(request.page_token or 0)
        last = first + (request.page_size or 50)
        return track_pb2.ListTracksResponse(
            tracks=tracks[first:last], next_page_token=str(last) if last < len(tracks) else ""
        )

    async def DeleteTrack(self, request: Any, context: Any) -> track_pb2.DeleteTrackResponse:
        user = self._seen(context)
        del self.tracks[user][self._track(user, request.track_id).id]
        return track_pb2.DeleteTrackResponse()

    async def ProcessTrack(self, request: Any, context: Any) -> track_pb2.ProcessTrackResponse:
        track = self._track(self._seen(context), request.track_id)
        job = self._new_job(track.id)
        for choice in request.options.separations:
            job.parts.add(name=f"separation:{choice.model}")
        return track_pb2.ProcessTrackResponse(job=job)

    async def GetJob(self, request: Any, context: Any) -> track_job_pb2.GetJobResponse:
        """Never answers."""
        self._seen(context)
        try:
            self.waiting += 1
            await asyncio.sleep(3600)
        finally:
            self.waiting -= 1
        raise AssertionError

    async def UploadTrack(self, requests: Any, context: Any) -> upload_pb2.UploadTrackResponse:
        user = self._seen(context)
        header = (await anext(aiter(requests))).header
        upload = Upload(header)
        self.uploads.append(upload)
        try:
            async for request in requests:
                upload.digest.update(request.chunk)
                upload.size += len(request.chunk)
                upload.largest_chunk = max(upload.largest_chunk, len(request.chunk))
                if self.refuse_upload_at is not None and upload.size >= self.refuse_upload_at:
                    raise LimitExceededError("That is too much.", "TOO_LARGE")
                await asyncio.sleep(self.upload_pace)
            # gRPC may end the iteration a moment before it cancels the RPC; real work here takes at least that long.
            await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            upload.ended = "cancelled"
            raise
        upload.ended = "complete"
        track = track_pb2.Track(id=uuid.uuid4().hex, title=header.filename, create_time=CREATED)
        self.tracks[user][track.id] = track
        return upload_pb2.UploadTrackResponse(track=track, job=self._new_job(track.id))

    async def GetMedia(self, request: Any, context: Any) -> media_pb2.GetMediaResponse:
        track = self._track(self._seen(context), request.track_id)
        if request.format not in ("", "flac", "wav"):
            raise InvalidInputError("There is no such format.", "UNKNOWN_FORMAT")
        wanted = (track.id, request.model, request.stem, request.kind, request.format)
        if wanted not in self.media:
            raise NotFoundError("There is no such stem.", "NO_SUCH_STEM")
        return self.media[wanted]

    async def GetLiveStems(self, request: Any, context: Any) -> media_pb2.GetLiveStemsResponse:
        self._seen(context)
        return media_pb2.GetLiveStemsResponse(live=self.live)

    async def WatchJob(self, request: Any, context: Any) -> AsyncIterator[track_job_pb2.WatchJobResponse]:
        self._seen(context)
        if request.job_id not in self.jobs:
            raise NotFoundError("There is no such job.", "NO_SUCH_JOB")

        async def states() -> AsyncGenerator[track_job_pb2.WatchJobResponse]:
            job = self.jobs[request.job_id]
            while True:
                yield track_job_pb2.WatchJobResponse(job=job)
                if job.job.state == SUCCEEDED:
                    return
                async with self.changed:
                    await self.changed.wait()

        self.watchers += 1
        try:
            async for state in self.draining.watch(states()):
                yield state
        finally:
            self.watchers -= 1

    async def WatchEvents(self, request: Any, context: Any) -> AsyncIterator[track_job_pb2.WatchEventsResponse]:
        self._seen(context)
        self.watchers += 1
        try:
            for job in self.jobs.values():
                yield track_job_pb2.WatchEventsResponse(job=job)
            yield track_job_pb2.WatchEventsResponse(snapshot_end=track_job_pb2.SnapshotEnd())
            while True:
                yield await self.events.get()
        finally:
            self.watchers -= 1


@dataclass
class Suite:
    """The services, running."""

    auth: Auth
    library: Library
    servers: dict[str, server.RunningServer]

    def address(self, service: str) -> str:
        return f"127.0.0.1:{self.servers[service].port}"


@asynccontextmanager
async def running_suite() -> AsyncIterator[Suite]:
    draining = Draining()
    # They answer only the RPCs that the tests call.
    auth = Auth()  # type: ignore[abstract]
    library = Library(draining)  # type: ignore[abstract]
    services = {
        "auth": server.Service(SESSIONS, auth.register, PUBLIC, further=(ACCOUNTS,)),
        "download": server.Service(TRACKS, library.register, further=(TRACK_JOBS, UPLOADS, MEDIA)),
    }
    servers = {
        name: await server.start(
            service,
            listen="127.0.0.1:0",
            health_listen="127.0.0.1:0",
            verifier=TokenVerifier(_keys),
            draining=draining,
        )
        for name, service in services.items()
    }
    try:
        yield Suite(auth, library, servers)
    finally:
        for running in servers.values():
            await running.stop(0.1)


async def until(condition: Any, seconds: float = 5.0) -> None:
    """Waits until something has happened at the other end of a connection."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
