"""The GPUs of this machine and the processes that use their memory, from nvidia-smi."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree  # nosec B405  # see below

ASK_SECONDS = 10


@dataclass(frozen=True)
class User:
    """A process with GPU memory (MiB): the name is that of StemTube's service, or of another program."""

    name: str
    memory_mib: int


@dataclass(frozen=True)
class Gpu:
    """One GPU; `cuda_version` is the newest version that the driver supports."""

    name: str
    driver_version: str
    cuda_version: str
    total_mib: int
    used_mib: int
    users: tuple[User, ...]


def find_gpus() -> list[Gpu]:
    """The GPUs; empty if nvidia-smi is missing or cannot reach the driver. Blocks while nvidia-smi runs."""
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
    """The program's output about all GPUs.

    Raises:
        OSError, SubprocessError: it cannot be started, fails, or does not answer in time.
    """
    process = subprocess.Popen([program, "-q", "-x"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        output, _ = process.communicate(timeout=ASK_SECONDS)
    except subprocess.TimeoutExpired:
        # Does not wait for its end, as `run` would: a process that waits for a hanging driver cannot be ended.
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
    """The service of a process: processes that compute are children of one started as `-m services.NAME`."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        parent = next(line.split()[1] for line in status.splitlines() if line.startswith("PPid:"))
        words = Path(f"/proc/{parent}/cmdline").read_text().split("\0")
    except (OSError, StopIteration):
        return None
    return next((word.removeprefix("services.") for word in words if word.startswith("services.")), None)
