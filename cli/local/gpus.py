"""The GPUs of this machine and who uses their memory, as NVIDIA's own tool tells it."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree  # nosec B405  # see below

ASK_SECONDS = 10


@dataclass(frozen=True)
class User:
    """A process that holds GPU memory (MiB): one of StemTube's by its service's name, others by their program's."""

    name: str
    memory_mib: int


@dataclass(frozen=True)
class Gpu:
    """One GPU; `cuda_version` is the newest that the driver can run."""

    name: str
    driver_version: str
    cuda_version: str
    total_mib: int
    used_mib: int
    users: tuple[User, ...]


def find_gpus() -> list[Gpu]:
    """The GPUs; none where nvidia-smi is missing or cannot reach the driver. Blocks for as long as that takes."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        log = ElementTree.fromstring(_output(program))  # nosec B314  # the driver's own program wrote it
    except (OSError, subprocess.SubprocessError, ElementTree.ParseError):
        return []
    driver, cuda = (log.findtext(name, "unknown") for name in ("driver_version", "cuda_version"))
    return [
        Gpu(
            name=gpu.findtext("product_name", "GPU"),
            driver_version=driver,
            cuda_version=cuda,
            total_mib=_mib(gpu.findtext("fb_memory_usage/total", "")),
            used_mib=_mib(gpu.findtext("fb_memory_usage/used", "")),
            users=tuple(_user(found) for found in gpu.iterfind("processes/process_info")),
        )
        for gpu in log.iterfind("gpu")
    ]


def _output(program: str) -> str:
    """What the program prints about all GPUs.

    Raises:
        OSError, SubprocessError: it cannot be started, fails, or does not answer in time.
    """
    process = subprocess.Popen([program, "-q", "-x"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        output, _ = process.communicate(timeout=ASK_SECONDS)
    except subprocess.TimeoutExpired:
        # Without waiting for its end, as `run` does: nothing ends a process that waits for a driver that hangs.
        process.kill()
        raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, program)
    return output


def _user(found: ElementTree.Element) -> User:
    pid, program = found.findtext("pid", ""), Path(found.findtext("process_name", "")).name
    return User(_service(pid) or program, _mib(found.findtext("used_memory", "")))


def _mib(text: str) -> int:
    number = text.partition(" ")[0]
    return int(number) if number.isdigit() else 0  # "N/A" in containers


def _service(pid: str) -> str | None:
    """The service whose child a process is: what computes is a child of what was started as `-m services.NAME`."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        parent = next(line.split()[1] for line in status.splitlines() if line.startswith("PPid:"))
        words = Path(f"/proc/{parent}/cmdline").read_text().split("\0")
    except (OSError, StopIteration):
        return None
    return next((word.removeprefix("services.") for word in words if word.startswith("services.")), None)
