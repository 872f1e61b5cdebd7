"""Network policies allow exactly the calls in the services' code."""

import ipaddress
import re
from itertools import product
from pathlib import Path

import pytest

from gateway.app import SERVICES
from tests.deploy.manifests import OVERLAYS, Manifests, Object, matches, pod_labels, port_number, rendered

ROOT = Path(__file__).parents[2]
ARROWS = {"auth", "download", "separation", "analysis"}
PRIVATE = ("10.0.0.1", "172.16.9.9", "192.168.1.1", "100.64.0.1", "127.0.0.1", "169.254.169.254", "fd00::1", "fe80::1")
PUBLIC = ("1.1.1.1", "93.184.216.34", "2606:4700::1111")
WITH_POLICIES = [name for name in OVERLAYS if rendered(f"overlays/{name}").of_kind("NetworkPolicy")]


def calls_in_code(manifests: Manifests) -> set[tuple[str, str]]:
    """Callers and callees, by the addresses that each process's code takes from the settings."""
    calls = set()
    for name in manifests.deployments:
        if name.endswith("-work"):
            continue  # it only takes jobs
        service = name.removesuffix("-serve")
        if name == "gateway":
            called = set(SERVICES)
        else:
            code = "".join(path.read_text() for path in (ROOT / "services" / service).rglob("*.py"))
            called = set(re.findall(r"\.address\.(\w+)", code))
            if (
                "VerifiedCallers(" in code
            ):  # services.common.rpc.runtime asks auth for keys and for the service's own token
                called.add("auth")
        assert called <= ARROWS
        calls |= {(name, other if other in ("auth", "download") else f"{other}-serve") for other in called}
    return calls


def policies(manifests: Manifests, direction: str, name: str) -> list[Object]:
    """The rules of one direction for a workload's pods, which must be isolated in that direction."""
    labels = pod_labels(manifests.deployments[name])
    holding = [
        found["spec"]
        for found in manifests.of_kind("NetworkPolicy").values()
        if direction in found["spec"]["policyTypes"] and matches(found["spec"]["podSelector"], labels)
    ]
    assert holding
    return [rule for spec in holding for rule in spec.get(direction.lower(), ())]


def allows(manifests: Manifests, rule: Object, side: str, peer: str, target: str, port: str) -> bool:
    """Whether a rule's peers ("from" or "to") include a workload's pods, at a named port of the target."""
    number = port_number(manifests.deployments[target], port)
    ports = rule.get("ports")
    if ports is not None and not any(entry["port"] in (port, number) for entry in ports):
        return False
    peers = rule.get(side)
    labels = pod_labels(manifests.deployments[peer])
    return peers is None or any(
        "podSelector" in entry and "namespaceSelector" not in entry and matches(entry["podSelector"], labels)
        for entry in peers
    )


@pytest.mark.parametrize("overlay", WITH_POLICIES)
def test_pods_reach_exactly_those_that_their_code_calls(overlay: str) -> None:
    manifests = rendered(f"overlays/{overlay}")
    reachable = set()
    for caller, callee in product(manifests.deployments, repeat=2):
        ports = {"grpc", "http", "health"} & {
            port["name"] for port in manifests.deployments[callee]["spec"]["template"]["spec"]["containers"][0]["ports"]
        }
        for port in ports:
            out = any(
                allows(manifests, rule, "to", callee, callee, port) for rule in policies(manifests, "Egress", caller)
            )
            into = any(
                allows(manifests, rule, "from", caller, callee, port) for rule in policies(manifests, "Ingress", callee)
            )
            if out and into:
                reachable.add((caller, callee, port))
    assert reachable == {(caller, callee, "grpc") for caller, callee in calls_in_code(manifests)}


@pytest.mark.parametrize("overlay", WITH_POLICIES)
def test_only_public_addresses_of_links_and_hubs_can_be_reached(overlay: str) -> None:
    policy = rendered(f"overlays/{overlay}").of_kind("NetworkPolicy")["internet"]
    (rule,) = policy["spec"]["egress"]
    assert {entry["port"] for entry in rule["ports"]} == {80, 443}
    blocks = [entry["ipBlock"] for entry in rule["to"]]

    def allowed(text: str) -> bool:
        address = ipaddress.ip_address(text)
        return any(
            address in ipaddress.ip_network(block["cidr"])
            and not any(address in ipaddress.ip_network(inside) for inside in block.get("except", ()))
            for block in blocks
        )

    assert [text for text in PRIVATE if allowed(text)] == []
    assert [text for text in PUBLIC if not allowed(text)] == []


@pytest.mark.parametrize("overlay", WITH_POLICIES)
def test_processes_without_objects_or_models_have_no_egress(overlay: str) -> None:
    manifests = rendered(f"overlays/{overlay}")
    reached = {
        name: manifests.selected(found["spec"]["podSelector"])
        for name, found in manifests.of_kind("NetworkPolicy").items()
        if name in ("internet", "databases", "objects")
    }
    everything = set(manifests.deployments)
    assert reached == {
        "internet": everything - {"auth", "gateway"},
        "databases": everything - {"gateway"},
        "objects": everything - {"auth"},
    }


@pytest.mark.parametrize("overlay", WITH_POLICIES)
def test_only_the_gateway_is_open_to_all(overlay: str) -> None:
    manifests = rendered(f"overlays/{overlay}")
    wide = {
        name: [
            entry["port"]
            for rule in policies(manifests, "Ingress", name)
            if "from" not in rule
            for entry in rule["ports"]
        ]
        for name in manifests.deployments
    }
    assert {name: ports for name, ports in wide.items() if ports} == {"gateway": ["http"]}
