"""Keeps this process from connecting to anything but public addresses, whatever a library in it is led to.

What is checked is the address that a socket connects to: after every redirect, and after a name was looked up, so that
a name which leads elsewhere the second time (DNS rebinding) gains nothing.
"""

import socket
from collections.abc import Collection
from typing import Any

from services.download.fetching.addresses import PORTS, is_public


class NotPublicError(OSError):
    """A connection that was refused."""


class Guard:
    """Watches over all connections of this process, once it is installed.

    Args:
        allowed_hosts: names or addresses that may be reached although they are not public, on any port.
    """

    def __init__(self, allowed_hosts: Collection[str]) -> None:
        self._hosts = frozenset(_name(host) for host in allowed_hosts)
        self._addresses = set(self._hosts)
        self.refused = False

    def install(self) -> None:
        """Begins; there is no end to it."""
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
        """The address to connect to, a name looked up, if it may be connected to."""
        if connecting.family not in (socket.AF_INET, socket.AF_INET6):
            return address
        host, port, *rest = address
        found = socket.getaddrinfo(host, port, connecting.family, connecting.type)
        number = str(found[0][4][0])
        if number not in self._addresses and not (port in PORTS.values() and is_public(number)):
            self.refused = True
            raise NotPublicError("the address is not public, or its port is not one of the web's")
        return (number, port, *rest)


def _name(host: str | bytes) -> str:
    return (host.decode() if isinstance(host, bytes) else host).lower().removesuffix(".")
