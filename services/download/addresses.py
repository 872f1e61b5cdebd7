"""Which links may be fetched."""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit, urlunsplit

from services.common.errors import InvalidInputError

MAX_URL, MAX_HOST = 2000, 253
# As names are looked up; the underscore is not a host's by RFC 1123, but there are such sites.
HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", re.IGNORECASE)
PORTS = {"http": 80, "https": 443}


async def check_link(url: str, allowed_hosts: Collection[str]) -> str:
    """A link in its normal form, if it may be fetched: http(s) on the usual ports of a public host.

    Args:
        url: as the user gave it.
        allowed_hosts: host names for which only the scheme is checked.

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
    return urlunsplit((scheme, address, parts.path or "/", parts.query, ""))


def _split(url: str) -> SplitResult:
    """The parts of an http(s) address without a user; ValueError if it is something else."""
    if len(url) > MAX_URL or not url.isprintable():
        raise ValueError("too long, or with control characters")
    parts = urlsplit(url)
    if parts.scheme not in PORTS or "@" in parts.netloc:
        raise ValueError("another scheme, or with a user")
    return parts


def _host(parts: SplitResult) -> str:
    """A host in lower case without the root's dot; ValueError if it is no name or address of one."""
    host = (parts.hostname or "").lower().removesuffix(".")
    if parts.netloc.startswith("[") and "%" not in host:
        return ipaddress.IPv6Address(host).compressed
    # UnicodeError, of an empty or too long label, is a ValueError.
    name = host.encode("idna").decode()
    if len(name) > MAX_HOST or not HOST.fullmatch(name):
        raise ValueError("no name of a host")
    return host


async def _is_public(host: str) -> bool:
    """Whether no address of a host is private; a name that cannot be looked up is left to the fetching to report."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return True
    return all(ipaddress.ip_address(entry[4][0]).is_global for entry in found)
