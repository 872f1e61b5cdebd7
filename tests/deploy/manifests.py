"""The manifests that kustomize renders from deploy/k8s, with the look-ups that tests need."""

import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]

K8S = Path(__file__).parents[2] / "deploy" / "k8s"
OVERLAYS = sorted(path.name for path in (K8S / "overlays").iterdir())
COMPONENTS = sorted(path.name for path in (K8S / "components").iterdir())
KUBECTL = Path(sys.executable).parent / "kubectl"
NAME = "app.kubernetes.io/name"


@functools.cache
def rendered(folder: str) -> "Manifests":
    """An overlay, or any folder below deploy/k8s."""
    return _render(K8S / folder)


@functools.cache
def base_with(component: str) -> "Manifests":
    """The base with one component."""
    with tempfile.TemporaryDirectory() as folder:
        place = os.path.relpath(K8S, os.path.realpath(folder))
        kustomization = {
            "namespace": "stemtube",
            "resources": [f"{place}/base"],
            "components": [f"{place}/components/{component}"],
        }
        (Path(folder) / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return _render(Path(folder))


def _render(folder: Path) -> "Manifests":
    made = subprocess.run([KUBECTL, "kustomize", folder], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return Manifests([document for document in yaml.safe_load_all(made.stdout) if document])


@dataclass(frozen=True)
class Manifests:
    objects: list[Object]

    def of_kind(self, kind: str) -> dict[str, Object]:
        return {found["metadata"]["name"]: found for found in self.objects if found["kind"] == kind}

    @property
    def deployments(self) -> dict[str, Object]:
        return self.of_kind("Deployment")

    def selected(self, selector: Object) -> set[str]:
        """Names of the Deployments whose pods match a label selector."""
        return {name for name, found in self.deployments.items() if matches(selector, pod_labels(found))}

    def environment(self, deployment: Object) -> dict[str, str]:
        """The environment of the main container's process."""
        container = main_container(deployment)
        maps = (self.of_kind("ConfigMap")[source["configMapRef"]["name"]]["data"] for source in container["envFrom"])
        given = {name: value for data in maps for name, value in data.items()}
        return given | {entry["name"]: entry["value"] for entry in container.get("env", ())}

    def service_of(self, address: str) -> tuple[str, int]:
        """The Deployment that `dns:///service:port` leads to, and its container's port."""
        name, port = address.removeprefix("dns:///").split(":")
        service = self.of_kind("Service")[name]
        (target,) = self.selected({"matchLabels": service["spec"]["selector"]})
        (target_port,) = (entry["targetPort"] for entry in service["spec"]["ports"] if entry["port"] == int(port))
        return target, port_number(self.deployments[target], target_port)


def main_container(deployment: Object) -> Object:
    found: list[Object] = deployment["spec"]["template"]["spec"]["containers"]
    (container,) = found
    return container


def containers(deployment: Object) -> Iterator[Object]:
    spec = deployment["spec"]["template"]["spec"]
    yield from (*spec.get("initContainers", ()), *spec["containers"])


def pod_labels(deployment: Object) -> dict[str, str]:
    labels: dict[str, str] = deployment["spec"]["template"]["metadata"]["labels"]
    return labels


def port_number(deployment: Object, port: str | int) -> int:
    """The number of a container's port, given by name or number."""
    ports = {entry["name"]: entry["containerPort"] for entry in main_container(deployment)["ports"]}
    assert port in ports or port in ports.values(), f"{deployment['metadata']['name']} has no port {port}"
    return int(ports.get(port, port))


def matches(selector: Object, labels: Mapping[str, str]) -> bool:
    assert selector.keys() <= {"matchLabels", "matchExpressions"}
    exact = all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items())
    for expression in selector.get("matchExpressions", ()):
        assert expression["operator"] == "In"
        exact = exact and labels.get(expression["key"]) in expression["values"]
    return exact
