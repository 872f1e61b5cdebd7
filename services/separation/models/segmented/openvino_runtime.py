"""OpenVINO (Intel, Apache 2), which computes networks on CPUs."""

import importlib
import importlib.util
import sys
from typing import Any


def why_not() -> str:
    """Why OpenVINO cannot be used here; empty if it can."""
    return "" if importlib.util.find_spec("openvino") else "the Python package openvino is not installed"


def import_openvino() -> Any:
    """Imports OpenVINO without its telemetry, because users did not agree to it."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # importing it fails; a stub serves
    return importlib.import_module("openvino")


def cpu_has_bfloat16() -> bool:
    """Whether the CPU supports bfloat16."""
    return "BF16" in import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
