"""Checks which links may be fetched."""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit, urlunsplit

from services.common.errors import InvalidInputError

MAX_URL, MAX_HOST = 2000, 253
# RFC 1123 does not allow an underscore in a host, but such sites exist.
HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", re.IGNORECASE)
PORTS = {"http": 80, "https": 443}
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
YOUTUBE = re.compile(
    r"https?://(?:(?:www|m|music)\.)?(?:youtube\.com/(?:watch\?(?:.*&)?v=|shorts/|live/|embed/)|youtu\.be/)"
    r"([A-Za-z0-9_-]{11})(?:[?&#/].*)?"
)


async def check_link(url: str, allowed_hosts: Collection[str]) -> str:
    """Normalises a link that may be fetched: http(s) on the usual ports of a public host.

    All addresses of a YouTube video give the same link. The addresses that a link leads to are checked again when it is
    fetched.

    Args:
        url: the link as the user gave it.
        allowed_hosts: host names for which only the scheme is checked.

    Returns:
        The link in its normal form.

    Raises:
        InvalidInputError: reason BAD_URL.
    """
    try:
        parts = _split(url.strip())
        host, port, scheme = _host(parts), parts.port, parts.scheme
    except ValueError:
        raise InvalidInputError("A link must be an http:// or https:// address.", "BAD_URL") from None
    if host not in allowed_hosts:
        if port not in (None, PORTS[scheme]):
            raise InvalidInputError("A link must use the usual port.", "BAD_URL")
        if not await _is_public(host):
            raise InvalidInputError("The link does not lead to a public address.", "BAD_URL")
    name = f"[{host}]" if ":" in host else host
    address = name if port in (None, PORTS[scheme]) else f"{name}:{port}"
    link = urlunsplit((scheme, address, parts.path or "/", parts.query, ""))
    video = YOUTUBE.fullmatch(link)
    return f"https://www.youtube.com/watch?v={video[1]}" if video else link


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


async def _is_public(host: str) -> bool:
    """Whether all addresses of a host are public. An unknown name passes: fetching it reports the error."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return True
    return all(is_public(str(entry[4][0])) for entry in found)


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
