"""Devices for models: finds GPUs, and recognises errors that a device causes."""

import sys
from pathlib import Path

from services.common.errors import DeviceError, NoMemoryError, StemTubeError

AUTO = "auto"
CPU = "cpu"
# NVIDIA's and AMD's drivers, and Windows' in WSL.
_GPU_FILES = ("nvidia[0-9]*", "kfd", "dxg")

# torch on GPUs, CTranslate2 and OpenVINO; torch on the CPU; C++ in general.
_SIGNS_OF_NO_MEMORY = ("out of memory", "can't allocate memory", "bad_alloc", "alloc_failed")
_SIGNS_OF_A_DEVICE = (
    "cuda error",
    "cuda failed with error",
    "cuda driver",
    "cuda-capable device",
    "cuda initialization",
    "no cuda gpus are available",
    "compiled with cuda enabled",
    "found no nvidia driver",
    "no nvidia driver",
    "cudnn",
    "cublas",
    "cufft",
    "cusolver",
    "nvrtc",
    "nvml",
    "hip error",
    "no hip gpus are available",
)


def gpu_files(folder: Path = Path("/dev")) -> list[Path]:
    """The device files of this machine's GPUs, without importing torch."""
    return sorted(path for pattern in _GPU_FILES for path in folder.glob(pattern))


def has_gpu(setting: str) -> bool:
    """Whether a setting (cpu, cuda or auto) means a GPU, judged by the machine's device files, without torch."""
    return setting.startswith("cuda") or (setting == AUTO and bool(gpu_files()))


def device_error(error: BaseException) -> DeviceError | None:
    """The `DeviceError` for an error that a device caused (a CUDA fault, or too little memory); None for others."""
    if isinstance(error, DeviceError):
        return error
    if isinstance(error, StemTubeError):
        return None
    if is_out_of_memory(error):
        return NoMemoryError("There is not enough memory for this on the device that computes.")
    if isinstance(error, _kinds("AcceleratorError")) or _has_sign(error, _SIGNS_OF_A_DEVICE):
        return DeviceError(f"The device that computes failed: {one_line(error)}")
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device has not enough memory."""
    return isinstance(error, (MemoryError, *_kinds("OutOfMemoryError"))) or _has_sign(error, _SIGNS_OF_NO_MEMORY)


def one_line(error: BaseException) -> str:
    """The first line of an error; torch adds advice for programmers after it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _has_sign(error: BaseException, signs: tuple[str, ...]) -> bool:
    # torch without CUDA raises AssertionError.
    text = str(error).lower()
    return isinstance(error, RuntimeError | AssertionError) and any(sign in text for sign in signs)


def _kinds(name: str) -> tuple[type[BaseException], ...]:
    """An error class of torch; empty if torch is not loaded, because then there can be no such error."""
    kind = getattr(sys.modules.get("torch"), name, None)
    return (kind,) if kind else ()
