"""The address of the client that sent a request, also behind proxies. Only trusted proxies are believed."""

import ipaddress
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import unquote

from pydantic import AfterValidator

ADDRESS_KEY = "x-client-address"
CLIENT_KEY = "x-client-name"
MAX_CLIENT_NAME = 200

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _are_networks(texts: tuple[str, ...]) -> tuple[str, ...]:
    for text in texts:
        ipaddress.ip_network(text)
    return texts


Networks = Annotated[tuple[str, ...], AfterValidator(_are_networks)]
"""A setting: networks such as 10.0.0.0/8."""

LOOPBACK = ("127.0.0.0/8", "::1/128")
PRIVATE = (*LOOPBACK, "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")


@dataclass(frozen=True, slots=True)
class Client:
    """The client that sent a request.

    Args:
        address: IP address; empty if it is unknown, as for programs on a trusted machine.
        name: the name that it gives itself, such as a browser's User-Agent.
    """

    address: str = ""
    name: str = ""

    @property
    def network(self) -> str:
        """The key for limits: the address, or with IPv6 its /64, because one customer has a whole /64."""
        if ":" not in self.address:
            return self.address
        return str(ipaddress.ip_network(f"{self.address}/64", strict=False))


_client: ContextVar[Client] = ContextVar("client")


def set_client(client: Client) -> None:
    """Makes `client` the client of the present RPC."""
    _client.set(client)


def present_client() -> Client:
    """The client of the present RPC."""
    return _client.get(Client())


class TrustedProxies:
    """Networks of proxies that are trusted to report their clients' addresses.

    Args:
        networks: as in `Networks`.
    """

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks: list[Network] = [ipaddress.ip_network(network) for network in networks]

    def trusts(self, address: str) -> bool:
        """Whether an address is that of a trusted proxy."""
        parsed = _parsed(address)
        return parsed is not None and any(parsed in network for network in self._networks)

    def client_address(self, peer: str, forwarded: Iterable[str]) -> str:
        """The client that a request comes from.

        Args:
            peer: address of the other end of the connection.
            forwarded: addresses reported by proxies, the nearest last. A client can forge the first ones.

        Returns:
            The last address that is not a trusted proxy's; empty if all are.
        """
        for address in (peer, *reversed(list(forwarded))):
            parsed = _parsed(address)
            if parsed is None:
                return ""
            if not self.trusts(address):
                return str(parsed)
        return ""


def valid_address(text: str) -> str:
    """An IP address in its usual form; empty if the text is not an address."""
    parsed = _parsed(text)
    return str(parsed) if parsed else ""


def grpc_peer(peer: str) -> str:
    """The address in gRPC's name of a peer (`ipv4:127.0.0.1:50000`, `ipv6:%5B::1%5D:50000`)."""
    kind, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else ""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    parsed = _parsed(host)
    return host == "localhost" or (parsed is not None and parsed.is_loopback)


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        parsed = ipaddress.ip_address(address.strip().partition("%")[0])
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return mapped or parsed
