import pytest
from pydantic import ValidationError

from services.common.config import NetworkSettings
from services.common.rpc.peers import PRIVATE, Client, TrustedProxies, grpc_peer, is_loopback, valid_address


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.7", [], "203.0.113.7"),
        ("203.0.113.7", ["6.6.6.6"], "203.0.113.7"),  # not a proxy
        ("10.0.0.1", ["203.0.113.7"], "203.0.113.7"),
        ("10.0.0.1", ["6.6.6.6", "203.0.113.7", "10.0.0.2"], "203.0.113.7"),
        ("::ffff:10.0.0.1", [" 2001:DB8::7 "], "2001:db8::7"),
        ("127.0.0.1", [], ""),
        ("127.0.0.1", ["unknown"], ""),
        ("", ["203.0.113.7"], ""),
    ],
)
def test_the_client_has_the_last_address_that_is_not_a_proxys(peer: str, forwarded: list[str], client: str) -> None:
    assert TrustedProxies(PRIVATE).client_address(peer, forwarded) == client


def test_limits_count_a_whole_ipv6_network() -> None:
    assert Client("2001:db8::1").network == Client("2001:db8::ffff:1").network == "2001:db8::/64"
    assert (Client("203.0.113.7").network, Client().network) == ("203.0.113.7", "")


def test_addresses_as_grpc_writes_them() -> None:
    assert grpc_peer("ipv4:127.0.0.1:50000") == "127.0.0.1"
    assert grpc_peer("ipv6:%5B::1%5D:50000") == "::1"
    assert grpc_peer("unix:/tmp/socket") == ""
    assert [valid_address(text) for text in ("::ffff:1.2.3.4", "x", "")] == ["1.2.3.4", "", ""]
    assert [host for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::", "auth") if is_loopback(host)] == [
        "127.0.0.1",
        "::1",
        "localhost",
    ]


def test_networks_are_checked_when_settings_are_read() -> None:
    with pytest.raises(ValidationError):
        NetworkSettings(trusted_proxies=("10.0.0.1/8",))
