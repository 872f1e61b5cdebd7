"""A RoFormer on a CPU by OpenVINO (Intel, Apache 2), in about 0.4 of the time of the reference in torch.

The network between the transforms is traced and converted once, and kept in a folder. Later starts compile the kept
network and do not load the checkpoint. Songs for which the conversion takes longer than it saves run in torch.
"""

import hashlib
import importlib.metadata
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
import torch
from torch import Tensor

from services.separation.models.roformer.config import RoFormerConfig
from services.separation.models.roformer.network import RoFormer, Transforms
from services.separation.models.roformer.torch_network import TorchNetwork, as_waves, of_segments
from services.separation.models.segmented.openvino_runtime import import_openvino
from services.separation.models.segmented.precision import Precision

log = structlog.get_logger(__name__)

WORTH_SEGMENTS = 3
"""Number of segments from which on a conversion pays: it takes about as long as one segment in torch."""
TRACED_FRAMES = 8
"""Frames of the spectrum with which the network is traced. They give the same graph as all frames."""
FORM = 1
"""Version of the converted form. Kept networks of another version are converted again."""


class OpenVinoNetwork:
    """A `Network` around a RoFormer.

    Args:
        make: loads the network in torch; called only if there is no kept conversion.
        config: its configuration.
        chunk: samples of a segment.
        precision: float32 or bfloat16.
        folder: folder for converted networks; None not to keep them.
        version: version of the weights; another version is converted again.
    """

    def __init__(
        self,
        make: Callable[[], RoFormer],
        config: RoFormerConfig,
        chunk: int,
        precision: Precision,
        folder: Path | None,
        version: str,
    ) -> None:
        self._make = make
        self._config = config
        self._precision = precision
        kind = f"roformer {version} {chunk} {FORM} openvino-{importlib.metadata.version('openvino')}"
        name = f"{hashlib.sha256(kind.encode()).hexdigest()[:20]}.xml"
        self._path = folder / name if folder else None
        self._transforms = Transforms(config, torch.device("cpu"))
        self._compiled: Any = None
        self._eager: TorchNetwork | None = None
        self._asked = 0
        self.segment_samples = chunk

    def prepare(self, segments: int) -> None:
        """Compiles the network if it is converted already, or if there are enough segments for a conversion to pay."""
        kept = self._path is not None and self._path.with_suffix(".bin").exists()
        self._asked += segments
        if self._compiled is None and (kept or self._asked >= WORTH_SEGMENTS):
            self._compiled = self._compile()
            self._eager = None  # frees its weights

    def valid_length(self, _samples: int) -> int:
        """See `Network.valid_length`. It is always a whole segment."""
        return self.segment_samples

    @torch.inference_mode()
    def __call__(self, batch: Tensor) -> Tensor:
        """See `Network.__call__`. Computes segments one by one, because batches are not faster on a CPU."""
        if self._compiled is None:
            return self._torch()(batch)
        return of_segments(torch.cat([self._separate(wave[None]) for wave in as_waves(batch, self._config)]), batch)

    def _separate(self, wave: Tensor) -> Tensor:
        spectrum, values = self._transforms.split(wave)
        masks = torch.from_numpy(self._compiled([values.numpy()])[self._compiled.output(0)])
        return self._transforms.join(spectrum, masks, wave.shape[-1])

    def _torch(self) -> TorchNetwork:
        if self._eager is None:
            cpu = torch.device("cpu")
            self._eager = TorchNetwork(self._make(), self._config, self.segment_samples, cpu, self._precision)
        return self._eager

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
        frames = self.segment_samples // self._config.hop + 1
        width = sum(2 * self._config.channels * len(band) for band in self._config.bands)
        with torch.no_grad(), warnings.catch_warnings():
            short = torch.zeros(1, TRACED_FRAMES, width)
            warnings.filterwarnings("ignore", category=torch.jit._trace.TracerWarning)
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            traced = torch.jit.trace(self._torch().model, short, check_trace=False)  # type: ignore[no-untyped-call]
            converted = openvino.convert_model(traced, example_input=short)
        converted.reshape(openvino.PartialShape([1, frames, width]))  # fixed shapes are faster
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
