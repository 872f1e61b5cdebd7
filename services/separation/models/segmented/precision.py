"""The arithmetic of networks on a device."""

from typing import Literal

import torch

from services.separation.models.segmented import openvino_runtime

Precision = Literal["float32", "bfloat16", "float16"]


def precision_of(device: torch.device, asked: str) -> Precision:
    """The precision to use: bfloat16 if it is asked for or, with `auto`, fast on the device; float16 on older GPUs.

    Args:
        device: where networks compute.
        asked: see `Hardware.precision`.
    """
    if asked == "float32":
        return "float32"
    if asked == "bfloat16":
        return "bfloat16"
    if device.type == "cuda":
        modern = asked == "auto" and torch.cuda.is_bf16_supported(including_emulation=False)
        return "bfloat16" if modern else "float16"
    modern = device.type == "cpu" and not openvino_runtime.why_not() and openvino_runtime.cpu_has_bfloat16()
    return "bfloat16" if modern else "float32"
