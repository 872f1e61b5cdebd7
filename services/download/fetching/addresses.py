"""Checks which links may be fetched."""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit, urlunsplit

from services.common.compute.fair_limiter import FairLimiter
from services.common.compute.threads import in_daemon_thread
from services.common.errors import InvalidInputError, LimitExceededError

MAX_URL, MAX_HOST = 2000, 253
# RFC 1123 does not allow an underscore in a host, but such sites exist.
HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", re.IGNORECASE)
PORTS = {"http": 80, "https": 443}
NAME_SECONDS = 3.0
"""Longest time that the check of a link waits for the addresses of a name."""
NAMES, NAMES_PER_USER = 16, 4
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
YOUTUBE = re.compile(
    r"https?://(?:(?:www|m|music)\.)?(?:youtube\.com/(?:watch\?(?:.*&)?v=|shorts/|live/|embed/)|youtu\.be/)"
    r"([A-Za-z0-9_-]{11})(?:[?&#/].*)?"
)


class LinkChecker:
    """Checks links before anything is fetched from them.

    Names are looked up in separate threads, a few for each user: a name whose server does not answer
    occupies its thread for half a minute, and must delay neither other users nor this process.

    Args:
        allowed_hosts: host names for which only the scheme is checked.
    """

    def __init__(self, allowed_hosts: Collection[str]) -> None:
        self._allowed_hosts = allowed_hosts
        self._names = FairLimiter("names of hosts", NAMES, NAMES_PER_USER)
        self._running: set[asyncio.Task[list[str]]] = set()

    async def checked(self, user: str, url: str) -> str:
        """A link in its normal form, if it may be fetched: http(s) on the usual ports of a public host.

        All addresses of one video on YouTube have the same form. The target is checked again when the link is fetched.

        Args:
            user: the user who gives it.
            url: as the user gave it.

        Raises:
            InvalidInputError: reason BAD_URL.
        """
        try:
            parts = _split(url.strip())
            host, port, scheme = _host(parts), parts.port, parts.scheme
        except ValueError:
            raise InvalidInputError("A link must be an http:// or https:// address.", "BAD_URL") from None
        if host not in self._allowed_hosts:
            if port not in (None, PORTS[scheme]):
                raise InvalidInputError("A link must use the usual port.", "BAD_URL")
            if not all(is_public(address) for address in await self._addresses(user, host)):
                raise InvalidInputError("The link does not lead to a public address.", "BAD_URL")
        name = f"[{host}]" if ":" in host else host
        address = name if port in (None, PORTS[scheme]) else f"{name}:{port}"
        link = urlunsplit((scheme, address, parts.path or "/", parts.query, ""))
        video = YOUTUBE.fullmatch(link)
        return f"https://www.youtube.com/watch?v={video[1]}" if video else link

    async def _addresses(self, user: str, host: str) -> list[str]:
        """A host's addresses; none if they are not found in time, because the fetch then reports the error."""
        # A separate task: it holds its place as long as the thread runs, but the caller waits only NAME_SECONDS.
        asking = asyncio.create_task(self._ask(user, host))
        self._running.add(asking)
        asking.add_done_callback(self._forget)
        try:
            async with asyncio.timeout(NAME_SECONDS):
                return await asyncio.shield(asking)
        except (OSError, LimitExceededError):
            return []

    async def _ask(self, user: str, host: str) -> list[str]:
        async with self._names.place(user, patient=True, wait_seconds=NAME_SECONDS):
            found = await in_daemon_thread(socket.getaddrinfo, host, None, 0, socket.SOCK_STREAM)
        return [str(entry[4][0]) for entry in found]

    def _forget(self, asking: asyncio.Task[list[str]]) -> None:
        self._running.discard(asking)
        _ = asking.cancelled() or asking.exception()  # its caller may have gone


def _split(url: str) -> SplitResult:
    """Splits an http(s) address without a user name; raises ValueError for anything else."""
    if len(url) > MAX_URL or not url.isprintable():
        raise ValueError("too long, or with control characters")
    parts = urlsplit(url)
    if parts.scheme not in PORTS or "@" in parts.netloc:
        raise ValueError("another scheme, or with a user")
    return parts


def _host(parts: SplitResult) -> str:
    """Returns the host in lower case without a final dot; raises ValueError if it is neither a name nor an address."""
    host = (parts.hostname or "").lower().removesuffix(".")
    if parts.netloc.startswith("[") and "%" not in host:
        return ipaddress.IPv6Address(host).compressed
    # A label that is empty or too long raises UnicodeError, which is a ValueError.
    name = host.encode("idna").decode()
    if len(name) > MAX_HOST or not HOST.fullmatch(name):
        raise ValueError("not a host name")
    return host


def is_public(address: str) -> bool:
    """Whether a numeric IP address is a public unicast address.

    An IPv6 address that embeds an IPv4 address, for a translator or a tunnel, is public if that one is.
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if inner is None and found in NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if found.teredo is not None:
            return False
    return found.is_global and not found.is_multicast
