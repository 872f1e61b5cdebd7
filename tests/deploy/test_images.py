"""Images and compose files: a target for each process, only its own packages, existing settings."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.common.config import split_address
from tests.deploy.conftest import known_variables
from tests.deploy.extras import PACKAGES, ROOT
from tests.deploy.images import DOCKER, stages
from tests.deploy.manifests import containers, rendered

DEFAULTS, STAGES = stages((DOCKER / "Dockerfile").read_text())
COMPOSE = yaml.safe_load((DOCKER / "docker-compose.yaml").read_text())
GPU = yaml.safe_load((DOCKER / "docker-compose.gpu.yaml").read_text())


def test_stages_come_from_earlier_ones_or_from_the_pinned_image() -> None:
    assert re.fullmatch(r"python:3\.1[1-3]-slim-\w+@sha256:[0-9a-f]{64}", DEFAULTS["PYTHON_IMAGE"])
    earlier = {"${PYTHON_IMAGE}"}
    for stage in STAGES.values():
        for accelerator in ("cpu", "cuda"):
            assert stage.base.replace("${ACCELERATOR}", accelerator) in earlier
        for text in (*stage.arguments("COPY"), *stage.arguments("RUN")):
            assert set(re.findall(r"(?:--from=|,from=)([\w-]+)", text)) <= earlier
        earlier.add(stage.name)
    assert DEFAULTS["ACCELERATOR"] == "cpu"


@pytest.mark.parametrize("process", PACKAGES)
def test_an_image_has_the_packages_of_its_extra_and_does_not_run_as_root(process: str) -> None:
    stage, packages = STAGES[process], STAGES[f"{process}-packages"]
    assert stage.base == "runtime"
    assert f"--from={process}-packages /app /app" in stage.arguments("COPY")
    (install,) = packages.arguments("RUN")
    assert install.endswith(f"pip install -c constraints.txt '.[{process},tracing]'")
    assert json.loads(stage.arguments("CMD")[0]) == ["python", "-m", PACKAGES[process]]
    assert [name for name, _ in stage.instructions][-3:] == ["USER", "EXPOSE", "CMD"]
    (deployment, *_) = (
        found
        for found in rendered("overlays/single-node").deployments.values()
        if any(container["image"].split(":")[0].endswith(f"/{process}") for container in containers(found))
    )
    context = deployment["spec"]["template"]["spec"]["securityContext"]
    assert stage.arguments("USER") == [f"{context['runAsUser']}:{context['runAsGroup']}"]


@pytest.mark.parametrize("process", PACKAGES)
def test_changes_of_the_code_do_not_rebuild_the_layer_of_packages(process: str) -> None:
    names = [f"{process}-packages"]
    while names[-1] in STAGES:
        names.append(STAGES[names[-1]].base.replace("${ACCELERATOR}", "cpu"))
    copied = [text for name in names[:-1] for text in STAGES[name].arguments("COPY")]
    assert copied == ["pyproject.toml constraints.txt ./"]


def test_only_the_source_is_sent_to_the_builder() -> None:
    lines = [
        line for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] not in ("#", "")
    ]
    assert lines[0] == "*"
    sent = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert sent == {"pyproject.toml", "constraints.txt", "setup.py", "MANIFEST.in", "README.md", "LICENSE"} | {
        "protos",
        "services",
        "gateway",
        "cli",
    }
    assert all((ROOT / name).exists() for name in sent)


@pytest.mark.parametrize("process", PACKAGES)
def test_compose_runs_each_process_with_settings_that_it_has(process: str, settings_from: Any) -> None:
    service = COMPOSE["services"][process]
    assert (service["build"]["target"], service["image"]) == (process, f"stemtube-{process}")
    assert (DOCKER / service["build"]["context"] / service["build"]["dockerfile"]).resolve() == DOCKER / "Dockerfile"
    environment = {**service["environment"], **GPU["services"].get(process, {}).get("environment", {})}
    module = PACKAGES[process]
    shared = COMPOSE["x-environment"].keys()
    assert environment.keys() - shared <= known_variables(module)
    section = getattr(settings_from(module, environment), process)
    assert split_address(section.listen)[0] == "0.0.0.0"
    # The health check runs inside the container.
    _, port = split_address(section.health_listen)
    assert f"http://127.0.0.1:{port}/readyz" in service["healthcheck"]["test"][-1]
    grace = getattr(section, "grace_seconds", getattr(section, "shutdown_seconds", 5.0))
    assert float(service["stop_grace_period"].removesuffix("s")) > grace + 5
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    mounted = dict(volume.split(":") for volume in service["volumes"])
    assert mounted.keys() <= COMPOSE["volumes"].keys()
    assert "/tmp" in mounted.values()


def test_compose_services_find_each_other(settings_from: Any) -> None:
    addresses = {name: value for name, value in COMPOSE["x-environment"].items() if "_ADDRESS__" in name}
    assert len(addresses) == 4
    for variable, address in addresses.items():
        host, port = split_address(address)
        assert variable == f"STEMTUBE_ADDRESS__{host.upper()}"
        section = getattr(settings_from(PACKAGES[host], COMPOSE["services"][host]["environment"]), host)
        assert split_address(section.listen)[1] == port


def test_the_gpu_is_for_the_separation_and_its_image_has_cuda() -> None:
    assert GPU["services"].keys() == {"separation"}
    separation = GPU["services"]["separation"]
    assert f"torch-{separation['build']['args']['ACCELERATOR']}" in STAGES
    assert separation["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]


@pytest.mark.parametrize("told", ["sha256:" + 64 * "a", "", "no such manifest"])
def test_make_images_pin_writes_the_registrys_digest(told: str, tmp_path: Path) -> None:
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(f"#!/bin/sh\necho \"$@\" >> {tmp_path}/asked\necho '{told}'\n")
    docker.chmod(0o755)
    file = tmp_path / "Dockerfile"
    file.write_text((DOCKER / "Dockerfile").read_text())
    environment = os.environ | {"PATH": f"{docker.parent}:{os.environ['PATH']}"}
    command = ["make", "images-pin", f"DOCKERFILE={file}"]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    tag, _, before = DEFAULTS["PYTHON_IMAGE"].partition("@")
    assert (tmp_path / "asked").read_text().split()[-1] == tag
    good = told.startswith("sha256:")
    assert (run.returncode == 0) == good, run.stderr
    pinned, _ = stages(file.read_text())
    assert pinned["PYTHON_IMAGE"] == f"{tag}@{told if good else before}"
