"""The RPCs on links: searches, look-ups, and the programs that fetch links."""

import asyncio
from typing import Any

from services.common.errors import InvalidInputError
from services.common.javascript import deno_path
from services.common.limits import DEFAULT_FOUND, MAX_FOUND, MAX_QUERY
from services.common.rpc.auth import require_user
from services.download.fetching.addresses import LinkChecker
from services.download.fetching.cookies import CookieRules
from services.download.fetching.lookups import Lookups
from services.download.tracks.messages import fetching_message, song_message
from stemtube.download.v1 import link_pb2 as pb
from stemtube.download.v1 import link_pb2_grpc


class LinkService(link_pb2_grpc.LinkServiceServicer):
    """The servicer. The contract describes each RPC and its errors.

    Args:
        lookups: asks the sites.
        cookies: decides which users' look-ups use the operator's cookies.
        links: checks links.
    """

    def __init__(self, lookups: Lookups, cookies: CookieRules, links: LinkChecker) -> None:
        self._lookups = lookups
        self._cookies = cookies
        self._links = links

    async def SearchSongs(self, request: pb.SearchSongsRequest, context: Any) -> pb.SearchSongsResponse:
        caller = require_user()
        query, count = " ".join(request.query.split()), request.count or DEFAULT_FOUND
        if not query or len(query) > MAX_QUERY or not 1 <= count <= MAX_FOUND:
            raise InvalidInputError(
                f"query must have 1 to {MAX_QUERY} characters, count must be 1 to {MAX_FOUND}", "BAD_REQUEST"
            )
        answer = await self._lookups.search(
            caller.subject,
            query,
            count,
            context.time_remaining(),
            use_cookies=self._cookies.serve(caller, "lookups"),
        )
        return pb.SearchSongsResponse(songs=[song_message(song) for song in answer["entries"]])

    async def LookUpLink(self, request: pb.LookUpLinkRequest, context: Any) -> pb.LookUpLinkResponse:
        caller = require_user()
        url = await self._links.checked(caller.subject, request.url)
        answer = await self._lookups.look_up(
            caller.subject, url, context.time_remaining(), use_cookies=self._cookies.serve(caller, "lookups", url)
        )
        return pb.LookUpLinkResponse(
            song=song_message(answer["song"]), entries=[song_message(song) for song in answer["entries"]]
        )

    async def GetFetching(self, _request: pb.GetFetchingRequest, _context: Any) -> pb.GetFetchingResponse:
        require_user()
        return fetching_message(await asyncio.to_thread(deno_path))
