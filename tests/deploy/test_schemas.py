"""Every manifest is valid for the clusters' APIs, without unknown fields."""

import functools
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import kubernetes_validate.utils
import pytest
from cloudcoil.models.cert_manager.v1 import Certificate, Issuer
from cloudcoil.models.keda.v1alpha1 import ScaledObject
from cloudcoil.models.prometheus_operator.v1 import PodMonitor, PrometheusRule

from tests.deploy.manifests import COMPONENTS, OVERLAYS, Manifests, base_with, rendered

VERSIONS = ("1.33", "1.34", "1.35", "1.36", "1.37")
CUSTOM = {kind.__name__: kind for kind in (Certificate, Issuer, ScaledObject, PodMonitor, PrometheusRule)}
# No package has its schema; test_meaning.py checks its references.
WITHOUT_SCHEMA = {"HTTPRoute"}

# Otherwise it reads a megabyte of definitions for each object.
kubernetes_validate.utils.schema_contents = functools.cache(kubernetes_validate.utils.schema_contents)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlays_are_valid_in_each_version(overlay: str, version: str) -> None:
    check(rendered(f"overlays/{overlay}"), version)


@pytest.mark.parametrize("component", COMPONENTS)
def test_each_component_fits_the_base(component: str) -> None:
    check(base_with(component), VERSIONS[-1])


def check(manifests: Manifests, version: str) -> None:
    for found in manifests.objects:
        _check(json.dumps(found, sort_keys=True), version)


@functools.cache
def _check(text: str, version: str) -> None:
    found = json.loads(text)
    if found["kind"] in CUSTOM:
        # Not jsonschema.validate, which refuses a schema for a pattern in Go's dialect.
        jsonschema.Draft202012Validator(closed(CUSTOM[found["kind"]].model_json_schema())).validate(found)
    elif found["kind"] not in WITHOUT_SCHEMA:
        kubernetes_validate.validate(found, version, strict=True)


def test_an_unknown_field_is_refused() -> None:
    scaled = rendered("overlays/gpu-cluster").of_kind("ScaledObject")["separation-work"]
    wrong = scaled | {"spec": scaled["spec"] | {"minReplicas": 0}}
    with pytest.raises(jsonschema.ValidationError, match="minReplicas"):
        check(Manifests([wrong]), VERSIONS[0])


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with unknown fields refused wherever it lists fields."""
    for part in _parts(schema):
        if "properties" in part:
            part.setdefault("additionalProperties", False)
    return schema


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        for part in schema.values():
            yield from _parts(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _parts(part)
