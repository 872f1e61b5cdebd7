"""Checks beyond schemas: names match, times fit, processes know their settings."""

import importlib
import re
import sys
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from services.common.config import PREFIX, LimitSettings, Settings, split_address
from services.common.rpc.runtime import queue_route
from tests.deploy.conftest import SETTINGS, known_variables
from tests.deploy.manifests import (
    COMPONENTS,
    OVERLAYS,
    Manifests,
    Object,
    base_with,
    containers,
    main_container,
    matches,
    pod_labels,
    port_number,
    rendered,
)

# Variables that other programs read.
OTHER_VARIABLES = {"NUMBA_CACHE_DIR"}
AUTH_GRACE_SECONDS = 5.0  # the default of services.common.rpc.server.serve, which auth leaves as it is
ENGINE_END_SECONDS = 5.0  # the time that JobQueue.stop_working gives the job engine beyond the grace period
WORKLOADS = [(overlay, name) for overlay in OVERLAYS for name in rendered(f"overlays/{overlay}").deployments]
SERVICES = {
    f"{file.package}.{service.name}"
    for file in FileDescriptorSet.FromString((files("stemtube") / "stemtube.binpb").read_bytes()).file
    for service in file.service
}
ALL = [*(f"overlays/{name}" for name in OVERLAYS), *(f"components/{name}" for name in COMPONENTS)]


def made(name: str) -> Manifests:
    return rendered(name) if name.startswith("overlays/") else base_with(name.removeprefix("components/"))


def workload(overlay: str, name: str) -> tuple[Manifests, Object]:
    manifests = rendered(f"overlays/{overlay}")
    return manifests, manifests.deployments[name]


def module_of(deployment: Object) -> str:
    arguments = main_container(deployment)["args"]
    assert arguments[:2] == ["python", "-m"]
    return str(arguments[2])


@pytest.fixture
def settings_of(settings_from: Any) -> Any:
    """Builds the settings of a Deployment's process from its environment."""

    def build(manifests: Manifests, deployment: Object) -> Settings:
        settings: Settings = settings_from(module_of(deployment), manifests.environment(deployment))
        return settings

    return build


@pytest.mark.parametrize("name", ALL)
def test_references_exist(name: str) -> None:
    manifests = made(name)
    claims, maps, accounts = (
        manifests.of_kind(kind) for kind in ("PersistentVolumeClaim", "ConfigMap", "ServiceAccount")
    )
    assert {found["metadata"]["namespace"] for found in manifests.objects if found["kind"] != "Namespace"} == {
        "stemtube"
    }
    for deployment in manifests.deployments.values():
        spec = deployment["spec"]["template"]["spec"]
        assert spec["serviceAccountName"] in accounts
        assert not accounts[spec["serviceAccountName"]]["automountServiceAccountToken"]
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        for volume in volumes.values():
            if claim := volume.get("persistentVolumeClaim"):
                assert claim["claimName"] in claims
        for container in containers(deployment):
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes.keys()
            assert {source["configMapRef"]["name"] for source in container["envFrom"]} <= maps.keys()
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]
        mounted = [mount["name"] for mount in main_container(deployment)["volumeMounts"]]
        assert sorted(mounted) == sorted(volumes), "a volume that nobody mounts, or twice"


@pytest.mark.parametrize("name", ALL)
def test_selectors_match_the_pods_of_one_workload(name: str) -> None:
    manifests = made(name)
    for found, deployment in manifests.deployments.items():
        labels = pod_labels(deployment)
        assert manifests.selected(deployment["spec"]["selector"]) == {found}
        (spread,) = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert manifests.selected(spread["labelSelector"]) == {found}
        assert labels["app.kubernetes.io/part-of"] == "stemtube"
    for found, budget in manifests.of_kind("PodDisruptionBudget").items():
        assert manifests.selected(budget["spec"]["selector"]) == {found}
    assert manifests.of_kind("PodDisruptionBudget").keys() == manifests.deployments.keys()
    for found, service in manifests.of_kind("Service").items():
        assert manifests.selected({"matchLabels": service["spec"]["selector"]}) == {found}
        for port in service["spec"]["ports"]:
            port_number(manifests.deployments[found], port["targetPort"])


@pytest.mark.parametrize(("overlay", "name"), WORKLOADS)
def test_pods_are_restricted(overlay: str, name: str) -> None:
    _, deployment = workload(overlay, name)
    spec = deployment["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is spec["enableServiceLinks"] is False
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers(deployment):
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert not context["allowPrivilegeEscalation"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        # Secrets are files, so that they are not in a process's environment.
        assert all("valueFrom" not in entry for entry in container.get("env", ()))


@pytest.mark.parametrize(("overlay", "name"), WORKLOADS)
def test_every_variable_is_a_setting(overlay: str, name: str) -> None:
    manifests, deployment = workload(overlay, name)
    own = {entry["name"] for entry in main_container(deployment)["env"]}
    assert own <= known_variables(module_of(deployment)) | OTHER_VARIABLES
    everybodys = set.union(*(known_variables(module) for module in SETTINGS))
    assert manifests.environment(deployment).keys() <= everybodys | OTHER_VARIABLES


@pytest.mark.parametrize(("overlay", "name"), WORKLOADS)
def test_processes_listen_on_the_ports_of_their_pods(overlay: str, name: str, settings_of: Any) -> None:
    manifests, deployment = workload(overlay, name)
    section = getattr(settings_of(manifests, deployment), module_of(deployment).rpartition(".")[2])
    listening = {"health": section.health_listen}
    if not name.endswith("-work"):
        listening["http" if name == "gateway" else "grpc"] = section.listen
    container, environment = main_container(deployment), manifests.environment(deployment)
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {
        port: split_address(address)[1] for port, address in listening.items()
    }
    assert {split_address(address)[0] for address in listening.values()} == {"0.0.0.0"}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        check = container[probe]
        port_number(deployment, check["grpc"]["port"] if "grpc" in check else check["httpGet"]["port"])
        # The kubelet's own gRPC probes speak no TLS.
        assert ("grpc" in check) == ("grpc" in listening and "STEMTUBE_NETWORK__TLS_DIR" not in environment)
    if "grpc" in container["readinessProbe"]:
        asked = container["readinessProbe"]["grpc"]["service"]
        assert asked in SERVICES, "a service that no process has is never ready"
        assert asked.startswith(f"stemtube.{module_of(deployment).rpartition('.')[2]}.v1.")


@pytest.mark.parametrize(("overlay", "name"), WORKLOADS)
def test_no_process_is_killed_within_its_grace_period(overlay: str, name: str, settings_of: Any) -> None:
    manifests, deployment = workload(overlay, name)
    settings = settings_of(manifests, deployment)
    match module_of(deployment).rpartition(".")[2]:
        case "auth":
            grace = AUTH_GRACE_SECONDS
        case "gateway":
            grace = settings.gateway.shutdown_seconds
        case service:
            grace = getattr(settings, service).grace_seconds + ENGINE_END_SECONDS
    stop = main_container(deployment).get("lifecycle", {}).get("preStop", {"sleep": {"seconds": 0}})
    if not name.endswith("-work"):
        assert stop["sleep"]["seconds"] >= 5, "its address must have left all clients first"
    assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > stop["sleep"]["seconds"] + grace


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_workers_have_time_for_the_longest_song(overlay: str, settings_of: Any) -> None:
    # Half of real time; on a whole machine every model in docs/performance.md is faster.
    manifests = rendered(f"overlays/{overlay}")
    for name in ("separation-work", "analysis-work"):
        settings = settings_of(manifests, manifests.deployments[name])
        grace = getattr(settings, name.removesuffix("-work")).grace_seconds
        assert grace >= settings.limit.max_seconds / 2


@pytest.mark.parametrize("component", COMPONENTS)
def test_models_that_pods_fetch_are_known_to_their_service(component: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for deployment in base_with(component).deployments.values():
        for container in containers(deployment):
            _, _, module, *arguments = container["args"]
            if module.endswith(".pull"):
                monkeypatch.setattr(sys, "argv", [module, "--find", *arguments])
                importlib.import_module(module).main()


@pytest.mark.parametrize("name", ALL)
def test_scalers_and_workers_agree(name: str) -> None:
    manifests = made(name)
    for found, scaled in manifests.of_kind("ScaledObject").items():
        spec = scaled["spec"]
        assert spec["scaleTargetRef"] == {"name": found}
        assert "replicas" not in manifests.deployments[found]["spec"], "it would undo the scaling at each apply"
        assert spec["minReplicaCount"] == 0
        assert spec["cooldownPeriod"] == 600
        down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
        assert down["stabilizationWindowSeconds"] == 300
        assert down["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 120}]
        (trigger,) = spec["triggers"]
        url = urlsplit(trigger["metadata"]["url"])
        service, namespace, *rest = (url.hostname or "").split(".")
        assert (service, namespace, rest) == (found.replace("-work", "-serve"), "stemtube", ["svc", "cluster", "local"])
        target, port = manifests.service_of(f"dns:///{service}:{url.port}")
        assert port == port_number(manifests.deployments[target], "health")
        assert url.path == queue_route(None).path  # type: ignore[arg-type]
    for found in ("separation-work", "analysis-work"):
        update = manifests.deployments[found]["spec"]["strategy"]["rollingUpdate"]
        assert (update["maxSurge"], "replicas" in manifests.deployments[found]["spec"]) == (0, False)


@pytest.mark.parametrize("name", ALL)
def test_ingresses_lead_to_the_gateway(name: str, settings_of: Any) -> None:
    manifests = made(name)
    gateway = manifests.of_kind("Service")["gateway"]
    names, numbers = ({port[key] for port in gateway["spec"]["ports"]} for key in ("name", "port"))
    for ingress in manifests.of_kind("Ingress").values():
        for rule in ingress["spec"]["rules"]:
            assert rule["host"] in ingress["spec"]["tls"][0]["hosts"]
            for path in rule["http"]["paths"]:
                assert path["backend"]["service"]["name"] == "gateway"
                assert path["backend"]["service"]["port"]["name"] in names
        settings = settings_of(manifests, manifests.deployments["gateway"]).gateway
        notes = {key.rpartition("/")[2]: value for key, value in ingress["metadata"]["annotations"].items()}
        assert int(notes["proxy-body-size"].removesuffix("m")) * 2**20 > LimitSettings().max_bytes
        for key in ("proxy-read-timeout", "proxy-send-timeout"):
            assert int(notes[key]) > max(settings.heartbeat_seconds, settings.media_seconds)
    for route in manifests.of_kind("HTTPRoute").values():
        for rule in route["spec"]["rules"]:
            assert {(backend["name"], backend["port"]) for backend in rule["backendRefs"]} <= {
                ("gateway", number) for number in numbers
            }


@pytest.mark.parametrize("name", ALL)
def test_every_pod_is_scraped(name: str) -> None:
    manifests = made(name)
    for monitor in manifests.of_kind("PodMonitor").values():
        for deployment in manifests.deployments.values():
            assert matches(monitor["spec"]["selector"], pod_labels(deployment))
            for endpoint in monitor["spec"]["podMetricsEndpoints"]:
                port_number(deployment, endpoint["port"])


@pytest.mark.parametrize("name", ALL)
def test_clients_find_all_replicas(name: str) -> None:
    manifests = made(name)
    (settings,) = (found for name, found in manifests.of_kind("ConfigMap").items() if name.startswith("settings-"))
    addresses = {key: value for key, value in settings["data"].items() if key.startswith(PREFIX + "ADDRESS__")}
    assert len(addresses) == 4
    for key, address in addresses.items():
        target, port = manifests.service_of(address)
        service = key.rpartition("__")[2].lower()
        assert target.removesuffix("-serve") == service
        assert port == port_number(manifests.deployments[target], "grpc")
        assert manifests.of_kind("Service")[target]["spec"]["clusterIP"] == "None"


def test_with_external_databases_no_service_keeps_data_in_its_pod() -> None:
    manifests = rendered("overlays/gpu-cluster")
    for name, deployment in manifests.deployments.items():
        (volume,) = (found for found in deployment["spec"]["template"]["spec"]["volumes"] if found["name"] == "secrets")
        needed = {
            source["secret"]["name"]
            for source in volume["projected"]["sources"]
            if not source["secret"].get("optional")
        }
        service = re.sub("-(serve|work)$", "", name)
        assert needed == (set() if name == "gateway" else {"stemtube-service", f"stemtube-{service}"})
