"""Limits that the contracts' comments tell are those that the services check."""

import re
from datetime import timedelta

import pytest

from gateway.transcoding.comments import read_comments
from services.analysis.backends.lyrics.text import MAX_CHARACTERS
from services.auth.api_tokens import api_tokens
from services.auth.api_tokens import service as api_token_service
from services.auth.invitations import invitations
from services.auth.invitations import service as invitation_service
from services.auth.passwords import rules
from services.auth.tables import MAX_TOKEN_NAME, MAX_USERNAME
from services.auth.users import service as user_service
from services.common.rpc.runtime import MAX_WORK_ITEMS
from services.download.pipeline.plan import MAX_TEXT
from services.download.playlists.playlists import MAX_TRACKS
from services.download.tables import MAX_PLAYLIST_NAME, MAX_TITLE
from services.download.tracks import listing, paging
from services.download.tracks.service import DEFAULT_FOUND, MAX_FOUND, MAX_QUERY
from services.download.tracks.text import MAX_NOTES
from services.download.uploads.service import MAX_CLIENT_METADATA

COMMENTS = {name: text for name, text in read_comments().items() if name.startswith("stemtube.")}
DAY = timedelta(days=1)
PAGES = (paging.DEFAULT_PAGE, paging.LARGEST_PAGE)
PASSWORD = (rules.MIN_PASSWORD, rules.MAX_PASSWORD)
LIMITS: dict[str, tuple[int, ...]] = {
    "analysis.v1.PartRequest.text": (MAX_CHARACTERS,),
    "auth.v1.ChangePasswordRequest.new_password": PASSWORD,
    "auth.v1.CreateApiTokenRequest.lifetime": (
        api_token_service.DEFAULT_LIFETIME // DAY,
        api_tokens.LONGEST_LIFETIME // DAY,
    ),
    "auth.v1.CreateApiTokenRequest.name": (MAX_TOKEN_NAME,),
    "auth.v1.CreateInvitationRequest.lifetime": (
        invitation_service.DEFAULT_LIFETIME // DAY,
        invitations.LONGEST_LIFETIME // DAY,
    ),
    "auth.v1.CreateInvitationRequest.uses": (invitations.MOST_USES,),
    "auth.v1.CreateUserRequest.username": (MAX_USERNAME,),
    "auth.v1.ListUsersRequest.page_size": (user_service.DEFAULT_PAGE, user_service.LARGEST_PAGE),
    "auth.v1.RegisterRequest.password": PASSWORD,
    "auth.v1.RegisterRequest.username": (MAX_USERNAME,),
    "download.v1.AnalysisChoice.text": (MAX_TEXT,),
    "download.v1.CreatePlaylistRequest.name": (MAX_PLAYLIST_NAME,),
    "download.v1.CreatePlaylistRequest.notes": (MAX_NOTES,),
    "download.v1.CreatePlaylistRequest.track_ids": (MAX_TRACKS,),
    "download.v1.CreateUploadRequest.metadata": (MAX_CLIENT_METADATA,),
    "download.v1.ListJobsRequest.page_size": PAGES,
    "download.v1.ListPlaylistsRequest.page_size": PAGES,
    "download.v1.ListTracksRequest.page_size": PAGES,
    "download.v1.ListTracksRequest.query": (listing.MAX_QUERY,),
    "download.v1.SearchSongsRequest.count": (DEFAULT_FOUND, MAX_FOUND),
    "download.v1.SearchSongsRequest.query": (MAX_QUERY,),
    "download.v1.UpdateTrackRequest.notes": (MAX_NOTES,),
    "download.v1.UpdateTrackRequest.title": (MAX_TITLE,),
    "operations.v1.GetWorkResponse.jobs": (MAX_WORK_ITEMS,),
}


@pytest.mark.parametrize("field", LIMITS)
def test_a_comment_tells_the_limits_that_are_checked(field: str) -> None:
    told = [int(number) for number in re.findall(r"\d+", COMMENTS[f"stemtube.{field}"])]
    assert not set(LIMITS[field]) - set(told), f"{COMMENTS[f'stemtube.{field}']!r} but {LIMITS[field]} in Python"


def test_each_limit_of_a_comment_is_compared() -> None:
    tells_limit = re.compile(r"\b(at most|up to) \d|\b\d+ (at most|to \d+)", re.IGNORECASE)
    told = {
        name.removeprefix("stemtube.")
        for name, text in COMMENTS.items()
        if tells_limit.search(text) and name.rpartition(".")[2].islower()
    }
    assert told - set(LIMITS) == set()
