"""Limits the connections of this process to public addresses, in every library that it uses.

The guard checks the address that a socket connects to. So it also checks redirects, and names that resolve to another
address the second time (DNS rebinding).
"""

import socket
from collections.abc import Collection
from typing import Any

from services.download.fetching.addresses import PORTS, is_public


class NotPublicError(OSError):
    """A connection was refused because its address is not public, or its port is not 80 or 443."""


class Guard:
    """Checks all connections of this process once it is installed.

    Args:
        allowed_hosts: names or addresses that are allowed although they are not public, on any port.

    Attributes:
        refused: whether a connection was refused since this was last set to False.
    """

    def __init__(self, allowed_hosts: Collection[str]) -> None:
        self._hosts = frozenset(_name(host) for host in allowed_hosts)
        self._addresses = set(self._hosts)
        self.refused = False

    def install(self) -> None:
        """Replaces the functions of `socket` for the rest of this process."""
        look_up, connect, connect_ex = socket.getaddrinfo, socket.socket.connect, socket.socket.connect_ex

        def guarded_look_up(host: Any, *arguments: Any, **options: Any) -> Any:
            found = look_up(host, *arguments, **options)
            if host is not None and _name(host) in self._hosts:
                self._addresses.update(str(entry[4][0]) for entry in found)
            return found

        def guarded_connect(this: socket.socket, address: Any) -> None:
            connect(this, self._checked(this, address))

        def guarded_connect_ex(this: socket.socket, address: Any) -> int:
            return connect_ex(this, self._checked(this, address))

        socket.getaddrinfo = guarded_look_up
        socket.socket.connect = guarded_connect  # type: ignore[method-assign, assignment]
        socket.socket.connect_ex = guarded_connect_ex  # type: ignore[method-assign, assignment]

    def _checked(self, connecting: socket.socket, address: Any) -> Any:
        """Resolves the address and returns it with a numeric host; raises NotPublicError if it is not allowed."""
        if connecting.family not in (socket.AF_INET, socket.AF_INET6):
            return address
        host, port, *rest = address
        found = socket.getaddrinfo(host, port, connecting.family, connecting.type)
        number = str(found[0][4][0])
        if number not in self._addresses and not (port in PORTS.values() and is_public(number)):
            self.refused = True
            raise NotPublicError("the address is not public, or its port is not 80 or 443")
        return (number, port, *rest)


def _name(host: str | bytes) -> str:
    return (host.decode() if isinstance(host, bytes) else host).lower().removesuffix(".")
