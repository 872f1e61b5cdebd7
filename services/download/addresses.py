"""Which links may be fetched."""

import asyncio
import ipaddress
import socket
from collections.abc import Collection
from urllib.parse import urlsplit, urlunsplit

from services.common.errors import InvalidInputError

MAX_URL = 2000
PORTS = {"http": 80, "https": 443}


async def check_link(url: str, allowed_hosts: Collection[str]) -> str:
    """A link in its normal form, if it may be fetched: http(s) on the usual ports of a public host.

    Args:
        url: as the user gave it.
        allowed_hosts: host names for which only the scheme is checked.

    Raises:
        InvalidInputError: reason BAD_URL.
    """
    parts = urlsplit(url.strip()) if len(url) <= MAX_URL else None
    try:
        port = parts.port if parts else None
    except ValueError:
        parts = None
    if parts is None or parts.scheme.lower() not in PORTS or not parts.hostname or parts.username or parts.password:
        raise InvalidInputError("A link must be an http:// or https:// address.", "BAD_URL")
    host, scheme = parts.hostname.lower(), parts.scheme.lower()
    if host not in allowed_hosts:
        if port not in (None, PORTS[scheme]):
            raise InvalidInputError("A link must use the usual port.", "BAD_URL")
        if not await _is_public(host):
            raise InvalidInputError("The link does not lead to a public address.", "BAD_URL")
    name = f"[{host}]" if ":" in host else host
    address = name if port in (None, PORTS[scheme]) else f"{name}:{port}"
    return urlunsplit((scheme, address, parts.path or "/", parts.query, ""))


async def _is_public(host: str) -> bool:
    """Whether no address of a host is private; a name that cannot be looked up is left to the fetching to report."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return True
    return all(ipaddress.ip_address(entry[4][0]).is_global for entry in found)
