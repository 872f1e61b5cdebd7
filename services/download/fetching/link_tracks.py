"""Makes tracks from links."""

from services.common.rpc.auth import Identity
from services.download.fetching.addresses import LinkChecker
from services.download.fetching.cookies import CookieRules
from services.download.pipeline.admission import Admission
from services.download.tables import Track
from services.download.tracks.repository import Grant, TrackRepository
from services.download.upkeep.usage import Usage


class LinkAdder:
    """Adds links to users' tracks. The track's job fetches the audio.

    Args:
        tracks: the tracks of all users.
        usage: the users' storage.
        admission: checks quotas and waiting jobs.
        cookies: decides which users' links are fetched with the operator's cookies.
        checker: checks links.
    """

    def __init__(
        self,
        tracks: TrackRepository,
        usage: Usage,
        admission: Admission,
        cookies: CookieRules,
        checker: LinkChecker,
    ) -> None:
        self._tracks = tracks
        self._usage = usage
        self._admission = admission
        self._cookies = cookies
        self._checker = checker

    async def checked(self, user: str, url: str) -> str:
        """A link in its normal form.

        Raises:
            InvalidInputError: the link may not be fetched (reason BAD_URL).
        """
        return await self._checker.checked(user, url)

    async def add(self, caller: Identity, url: str) -> tuple[Track, Grant, bool]:
        """Adds the track of a checked link to the caller's tracks.

        Returns:
            The track, what adding it changed for the caller, and whether its link is fetched with the operator's
            cookies.

        Raises:
            LimitExceededError: the caller may not add more (reason QUOTA_EXCEEDED, TOO_MANY_JOBS).
        """
        user = caller.subject
        use_cookies = self._cookies.serve(caller, "fetches", url)
        async with self._admission.room(user) as room:
            if not use_cookies:
                # If other users have this link, its audio is there already and counts at once.
                await room.set_size(await self._usage.of_link(user, url))
            track, grant = await self._tracks.grant_link(user, url, private=use_cookies, reservation_id=room.id)
            return track, grant, use_cookies
