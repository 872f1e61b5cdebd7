"""Converts networks for OpenVINO on CPUs, once, and keeps them in a folder for later starts."""

import hashlib
import importlib.metadata
import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import structlog
import torch
from torch import Tensor, nn

from services.separation.models.segmented.openvino_runtime import import_openvino
from services.separation.models.segmented.precision import Precision

log = structlog.get_logger(__name__)


class Conversion:
    """A converted network in a folder.

    Args:
        kind: what identifies the network: the version of its weights and of its converted form, and its shape.
        precision: float32 or bfloat16, in which it computes; the kept one is float32.
        folder: folder for converted networks; None not to keep them.
    """

    def __init__(self, kind: str, precision: Precision, folder: Path | None) -> None:
        name = hashlib.sha256(f"{kind} openvino-{importlib.metadata.version('openvino')}".encode()).hexdigest()[:20]
        self._path = folder / f"{name}.xml" if folder else None
        self._precision = precision

    @property
    def is_kept(self) -> bool:
        """Whether the network has been converted before."""
        return self._path is not None and self._path.with_suffix(".bin").exists()

    def compile(self, convert: Callable[[], Any]) -> Any:
        """Compiles the kept network, or else the one that `convert` returns, which is then kept.

        Args:
            convert: converts the network, see `traced`; called only if none is kept, or the kept one is damaged.

        Returns:
            OpenVINO's compiled model.
        """
        core = import_openvino().Core()
        hint = {"float32": "f32", "bfloat16": "bf16"}[self._precision]
        settings = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
        if self._path is not None and self._path.exists():
            try:
                return core.compile_model(core.read_model(self._path), "CPU", settings)
            except RuntimeError:
                log.warning("the converted network is damaged and will be converted again")
        log.info("converting the network; this is done once")
        converted = convert()
        try:
            if self._path is not None:
                _save(converted, self._path)
        except OSError as error:
            log.warning("the converted network cannot be kept and will be converted again", error=str(error))
        return core.compile_model(converted, "CPU", settings)


def traced(module: nn.Module, examples: Sequence[Tensor], shapes: Sequence[Sequence[int]]) -> Any:
    """Traces and converts a network.

    Args:
        module: on the CPU.
        examples: inputs to trace it with; small ones give the same graph in a fraction of the time and memory.
        shapes: the shapes of its inputs later on. Fixed shapes are a fifth faster.

    Returns:
        OpenVINO's model, not compiled.
    """
    openvino = import_openvino()
    inputs = tuple(examples) if len(examples) > 1 else examples[0]
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=torch.jit._trace.TracerWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        graph = torch.jit.trace(module, inputs, check_trace=False)  # type: ignore[no-untyped-call]
        converted = openvino.convert_model(graph, example_input=inputs)
    fixed = zip(converted.inputs, shapes, strict=True)
    converted.reshape({port: openvino.PartialShape(list(shape)) for port, shape in fixed})
    return converted


def _save(converted: Any, path: Path) -> None:
    """Writes both files atomically. The weights come last, because `is_kept` looks for them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        written = Path(folder) / path.name
        import_openvino().save_model(converted, written, compress_to_fp16=False)
        for suffix in (".xml", ".bin"):
            os.replace(written.with_suffix(suffix), path.with_suffix(suffix))
