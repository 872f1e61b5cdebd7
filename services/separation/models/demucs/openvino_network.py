"""HTDemucs on a CPU by OpenVINO (Intel, Apache 2): 2.2 times as fast as torch in float32, 2.6 times in bfloat16.

The network is traced and converted once (2 s for the full size) and kept in a folder. Later starts compile the kept
network (under 1 s). Songs for which the conversion takes longer than it saves run in torch.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import structlog
import torch
from torch import Tensor

from services.separation.models.demucs import htdemucs_layers
from services.separation.models.demucs.htdemucs_network import HTDemucsTorchNetwork, Precision, Transforms

log = structlog.get_logger(__name__)

WORTH_SEGMENTS = 6
"""Number of segments from which on a conversion pays (a song of 35 s). With saving and compiling it takes 3 s, or 5 s
on a busy machine, and saves 0.6 s (bfloat16) to 1.2 s (float32) for each segment."""
TRACED_FRAMES = 8
"""Frames of the segment with which the network is traced. All 336 give the same graph, in twice the time and with 0.9
GB more memory."""
FORM = 2
"""Version of the converted form. Kept networks of another version are converted again."""


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


class OpenVinoNetwork:
    """A `Network` around one HTDemucs.

    Args:
        model: an `HTDemucs` of demucs on the CPU, for which `htdemucs_layers.suits` is true.
        precision: float32 or bfloat16.
        folder: folder for converted networks; None not to keep them.
        version: version of the weights; another version is converted again.
    """

    def __init__(self, model: Any, precision: Precision, folder: Path | None, version: str) -> None:
        self._model = model.requires_grad_(False)
        self._transforms = Transforms(model)
        self._precision = precision
        kind = f"{version} {FORM} openvino-{importlib.metadata.version('openvino')}"
        name = f"{hashlib.sha256(kind.encode()).hexdigest()[:20]}.xml"
        self._path = folder / name if folder else None
        self._compiled: Any = None
        self._asked = 0
        self._eager = HTDemucsTorchNetwork(model, torch.device("cpu"), precision)
        self.segment_samples = int(model.samplerate * model.segment)

    def prepare(self, segments: int) -> None:
        """Compiles the network if it is converted already, or if there are enough segments for a conversion to pay."""
        kept = self._path is not None and self._path.with_suffix(".bin").exists()
        self._asked += segments
        if self._compiled is None and (kept or self._asked >= WORTH_SEGMENTS):
            self._compiled = self._compile()

    def valid_length(self, _samples: int) -> int:
        """See `Network`. It is always the length of the segments in training."""
        return self.segment_samples

    @torch.inference_mode()
    def __call__(self, batch: Tensor) -> Tensor:
        """See `Network`. Computes segments one by one, because batches are not faster on a CPU."""
        if self._compiled is None:
            return self._eager(batch)
        return torch.cat([self._separate(wave[None]) for wave in batch])

    def _separate(self, wave: Tensor) -> Tensor:
        results = self._compiled([part.numpy() for part in self._inputs(wave)])
        spectrum, waves = (torch.from_numpy(results[output]) for output in self._compiled.outputs)
        return self._transforms.join_channels_last(spectrum[0], waves[0, 0])[None]

    def _inputs(self, wave: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        spectrum = self._transforms.split(wave)
        return wave, spectrum, htdemucs_layers.levels_of(wave, spectrum)

    def _compile(self) -> Any:
        openvino = import_openvino()
        core = openvino.Core()
        hint = {"float32": "f32", "bfloat16": "bf16"}[self._precision]
        settings = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
        if self._path is not None and self._path.exists():
            try:
                return core.compile_model(core.read_model(self._path), "CPU", settings)
            except RuntimeError:
                log.warning("the converted network is damaged and will be converted again")
        return core.compile_model(self._convert(openvino), "CPU", settings)

    def _convert(self, openvino: Any) -> Any:
        log.info("converting the network; this is done once")
        with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
            inputs = self._inputs(torch.zeros(1, 2, self.segment_samples))
            # A few frames give the same graph as a whole segment, in a fraction of the time. The segment is shortened
            # by a whole number of frames, so that the padding stays the same.
            surplus = max(0, inputs[1].shape[-1] - TRACED_FRAMES)
            short = self._inputs(torch.zeros(1, 2, self.segment_samples - surplus * self._model.hop_length))
            warnings.filterwarnings("ignore", category=torch.jit._trace.TracerWarning)
            traced = torch.jit.trace(  # type: ignore[no-untyped-call]
                htdemucs_layers.Core(self._model), short, check_trace=False
            )
            converted = openvino.convert_model(traced, example_input=short)
        # Fixed shapes are a fifth faster.
        converted.reshape(
            {port: openvino.PartialShape(list(part.shape)) for port, part in zip(converted.inputs, inputs, strict=True)}
        )
        try:
            if self._path is not None:
                self._save(openvino, converted, self._path)
        except OSError as error:
            log.warning("the converted network cannot be kept and will be converted again", error=str(error))
        return converted

    def _save(self, openvino: Any, converted: Any, path: Path) -> None:
        """Writes both files atomically. The weights come last, because `prepare` looks for them."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            written = Path(folder) / path.name
            openvino.save_model(converted, written, compress_to_fp16=False)
            for suffix in (".xml", ".bin"):
                os.replace(written.with_suffix(suffix), path.with_suffix(suffix))
