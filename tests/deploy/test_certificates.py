"""Mutual TLS with the component: each server and client has a certificate with the name that its peers expect."""

import pytest

from tests.deploy.manifests import Manifests, Object, base_with, main_container, rendered

SERVING = {"auth", "download", "separation-serve", "analysis-serve", "gateway"}
TLS_DIR, PLAIN = "STEMTUBE_NETWORK__TLS_DIR", "STEMTUBE_NETWORK__PLAIN"


@pytest.fixture(params=["component", "overlay"])
def manifests(request: pytest.FixtureRequest) -> Manifests:
    return base_with("mtls") if request.param == "component" else rendered("overlays/gpu-cluster")


def certificate_of(manifests: Manifests, deployment: Object) -> Object:
    """The spec of the certificate that a Deployment's pods find in `TLS_DIR`."""
    folder = manifests.environment(deployment)[TLS_DIR]
    (mount,) = (found for found in main_container(deployment)["volumeMounts"] if found["mountPath"] == folder)
    volumes = deployment["spec"]["template"]["spec"]["volumes"]
    (secret,) = (volume["secret"]["secretName"] for volume in volumes if volume["name"] == mount["name"])
    certificate: Object
    (certificate,) = (
        found["spec"] for found in manifests.of_kind("Certificate").values() if found["spec"]["secretName"] == secret
    )
    return certificate


def test_each_process_has_its_own_certificate(manifests: Manifests) -> None:
    addresses = {
        name.rpartition("__")[2].lower(): value.removeprefix("dns:///").partition(":")[0]
        for name, value in manifests.environment(manifests.deployments["gateway"]).items()
        if "_ADDRESS__" in name
    }
    for name in SERVING:
        certificate = certificate_of(manifests, manifests.deployments[name])
        service = name.removesuffix("-serve")
        # services.auth compares these names with the service that asks for a token, clients with the host they called.
        assert certificate["commonName"] == service
        assert certificate["dnsNames"] == [addresses.get(service, name)]
        assert {"server auth", "client auth"} <= set(certificate["usages"])


def test_no_process_uses_plain_text(manifests: Manifests) -> None:
    for name, deployment in manifests.deployments.items():
        environment = manifests.environment(deployment)
        assert environment[PLAIN] == "false"
        assert (TLS_DIR in environment) == (name in SERVING)
    for service in manifests.of_kind("Service").values():
        assert all("appProtocol" not in port for port in service["spec"]["ports"])


def test_one_authority_signs_all(manifests: Manifests) -> None:
    certificates, issuers = manifests.of_kind("Certificate"), manifests.of_kind("Issuer")
    by_issuer = {name: found["spec"]["issuerRef"]["name"] for name, found in certificates.items()}
    (authority,) = (name for name, issuer in by_issuer.items() if "selfSigned" in issuers[issuer]["spec"])
    assert certificates[authority]["spec"]["isCA"]
    (signing,) = set(by_issuer.values()) - {by_issuer[authority]}
    assert issuers[signing]["spec"]["ca"]["secretName"] == certificates[authority]["spec"]["secretName"]
    assert len(certificates) == len(SERVING) + 1
