"""Engines with devices that fail: at the start, once, permanently, during a task; one of several, and the only one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from services.common.compute import devices, engine, torch_devices
from services.common.compute.engine import Engine
from services.common.compute.engines import Engines
from services.common.config import LogSettings
from services.common.errors import Code, DeviceError, DeviceNotReadyError, StemTubeError
from tests.common.compute.engine_work import Device, DeviceWork, prove

COUNT = {"do": "count"}


class Rooms:
    """Records how many jobs the engines allow the queue to run."""

    def __init__(self) -> None:
        self.told: list[int] = []

    async def become(self, room: int) -> None:
        async with asyncio.timeout(60):
            while self.told[-1:] != [room]:
                await asyncio.sleep(0.02)


class Pool:
    """Engines on devices that a test breaks."""

    def __init__(self, folder: Path, *names: str, rest_seconds: tuple[float, ...] = (0.1,)) -> None:
        self.rooms = Rooms()
        self._folder = folder

        def with_device(name: str) -> Device:
            return Device(name, folder)

        self.engines = Engines(
            [
                (name, Engine(f"test-{name}", DeviceWork, with_device(name), LogSettings(), prove=prove))
                for name in names
            ],
            with_device,
            rest_seconds=rest_seconds,
            try_seconds=(0.1,),
        )

    def breaks(self, name: str, how: str = "gone") -> Path:
        path = Device(name, self._folder).breaks(how)
        path.touch()
        return path

    async def start(self, room: int | None = None) -> None:
        self.engines.start(self.rooms.told.append)
        await self.rooms.become(len(self.engines) if room is None else room)

    async def run(
        self, job: str = "job", task: dict[str, Any] | None = None, told: Callable[..., None] | None = None
    ) -> Any:
        return await self.engines.run(job, task or COUNT, told or (lambda *_, **__: None))


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Callable[..., Pool]]:
    pools: list[Pool] = []

    def make(*names: str, **options: Any) -> Pool:
        pools.append(Pool(tmp_path, *names, **options))
        return pools[-1]

    yield make
    for pool in pools:
        await pool.engines.close()


Make = Callable[..., Pool]


async def test_a_missing_device_gets_no_tasks_until_it_returns(make: Make) -> None:
    pool = make("cuda")
    driver = pool.breaks("cuda")
    await pool.start(room=0)
    async with asyncio.timeout(60):
        while "no CUDA-capable device is detected" not in pool.engines.why_not():
            await asyncio.sleep(0.02)
    assert "no jobs are taken" in pool.engines.why_not()
    assert "\n" not in pool.engines.why_not()
    with pytest.raises(DeviceNotReadyError, match="no CUDA-capable device"):
        await pool.run()
    driver.unlink()
    await pool.rooms.become(1)
    assert pool.engines.why_not() == ""
    assert (await pool.run())["device"] == "cuda"


async def test_a_lost_device_is_noticed_before_the_next_task(make: Make) -> None:
    pool = make("cuda")
    await pool.start()
    assert (await pool.run())["tasks"] == 1
    driver = pool.breaks("cuda")
    with pytest.raises(DeviceNotReadyError):
        await pool.run()
    assert pool.rooms.told[-1] == 0
    driver.unlink()
    await pool.rooms.become(1)
    assert (await pool.run())["tasks"] == 1, "the child that had the lost device went on"


@pytest.mark.parametrize(
    ("fault", "code", "reason"),
    [
        ("no_memory", Code.RESOURCE_EXHAUSTED, "OUT_OF_MEMORY"),
        ("cuda_fault", Code.UNAVAILABLE, "DEVICE_FAILED"),
        ("whisper_fault", Code.UNAVAILABLE, "DEVICE_FAILED"),
        ("die", Code.UNAVAILABLE, "WORKER_DIED"),
    ],
)
async def test_a_fault_ends_the_child_and_sets_the_device_aside(
    fault: str, code: Code, reason: str, make: Make
) -> None:
    pool = make("cuda")
    await pool.start()
    before = await pool.run()
    with pytest.raises(DeviceError) as caught:
        await pool.run(task={"do": fault})
    assert (caught.value.code, caught.value.reason) == (code, reason)
    assert not isinstance(caught.value, DeviceNotReadyError)
    assert pool.rooms.told[-1] == 0
    await pool.rooms.become(1)
    after = await pool.run()
    assert after["pid"] != before["pid"]
    assert after["tasks"] == 1


async def test_a_bug_is_not_reported_as_a_device_error(make: Make) -> None:
    pool = make("cuda")
    await pool.start()
    for task, code in (("fault", Code.INTERNAL), ("refuse", Code.INVALID_ARGUMENT)):
        with pytest.raises(StemTubeError) as caught:
            await pool.run(task={"do": task})
        assert caught.value.code == code
        assert not isinstance(caught.value, DeviceError)
    assert (await pool.run())["tasks"] == 3


async def test_one_device_continues_while_the_other_is_tried_again(make: Make) -> None:
    pool = make("cuda:0", "cuda:1")
    driver = pool.breaks("cuda:0")
    await pool.start(room=1)
    assert pool.engines.why_not() == ""
    assert {(await pool.run())["device"] for _ in range(3)} == {"cuda:1"}
    driver.unlink()
    await pool.rooms.become(2)
    both = await asyncio.gather(pool.run(), pool.run())
    assert {done["device"] for done in both} == {"cuda:0", "cuda:1"}


async def test_a_job_goes_to_the_device_that_has_not_failed_at_it(make: Make) -> None:
    pool = make("cuda:0", "cuda:1")
    await pool.start()
    with pytest.raises(DeviceError):
        await pool.run("song", {"do": "cuda_fault"})
    await pool.rooms.become(2)
    assert (await pool.run("song"))["device"] == "cuda:1"


async def test_a_device_that_fails_repeatedly_rests_longer(make: Make) -> None:
    """Such a device may pass its check; without a rest it would take the whole queue, song by song."""
    pool = make("cuda", rest_seconds=(0.1, 3600))
    await pool.start()
    for _ in range(2):
        with pytest.raises(DeviceError):
            await pool.run("one", {"do": "cuda_fault"})
        await pool.rooms.become(1)
    with pytest.raises(DeviceError):
        await pool.run("another", {"do": "cuda_fault"})
    await asyncio.sleep(1)
    assert pool.rooms.told[-1] == 0
    with pytest.raises(DeviceNotReadyError, match="illegal memory access"):
        await pool.run("a third")


async def test_after_a_stopped_job_both_devices_work_in_parallel(make: Make) -> None:
    """The next job once got a busy engine, which was then returned twice; afterwards one device stayed idle."""
    pool = make("cuda:0", "cuda:1")
    await pool.start()

    async def begin(job: str) -> asyncio.Task[Any]:
        began = asyncio.Event()
        loop = asyncio.get_running_loop()

        def tell(*_arguments: Any, **_detail: Any) -> None:
            loop.call_soon_threadsafe(began.set)

        task = asyncio.create_task(pool.run(job, {"do": "deaf"}, tell))
        async with asyncio.timeout(60):
            await began.wait()
        return task

    stopped, other = await begin("stopped"), await begin("other")
    stopped.cancel()  # its engine takes a while to stop
    assert (await pool.run("next"))["device"] == "cuda:0"
    other.cancel()
    await asyncio.gather(stopped, other, return_exceptions=True)
    for _ in range(2):
        both = await asyncio.gather(pool.run("a"), pool.run("b"))
        assert {done["device"] for done in both} == {"cuda:0", "cuda:1"}


async def test_auto_stays_with_the_gpu_that_it_found(make: Make) -> None:
    pool = make("auto")
    await pool.start()
    assert (await pool.run())["device"] == "cuda"
    driver = pool.breaks("cuda")
    with pytest.raises(DeviceNotReadyError):
        await pool.run()
    assert pool.rooms.told[-1] == 0
    driver.unlink()
    await pool.rooms.become(1)
    assert (await pool.run())["device"] == "cuda"


async def test_a_device_check_that_crashes_or_hangs_fails(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = make("cuda")
    crashes = pool.breaks("cuda", "crashes")
    await pool.start(room=0)
    async with asyncio.timeout(60):
        while "SIGABRT" not in pool.engines.why_not():
            await asyncio.sleep(0.02)
    monkeypatch.setattr(engine, "PROOF_SECONDS", 1.0)
    hangs = pool.breaks("cuda", "hangs")
    crashes.unlink()
    async with asyncio.timeout(60):
        while "did not answer" not in pool.engines.why_not():
            await asyncio.sleep(0.02)
    hangs.unlink()
    monkeypatch.setattr(engine, "PROOF_SECONDS", 60.0)
    await pool.rooms.become(1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7"])
def test_a_missing_gpu_fails_its_check(device: str) -> None:
    with pytest.raises(DeviceNotReadyError, match=rf"The device {device} cannot be used: .*(CUDA|NVIDIA)"):
        torch_devices.prove(device)


def test_without_a_gpu_auto_is_the_cpu() -> None:
    assert torch_devices.prove("cpu") == "cpu"
    if not torch.cuda.is_available():
        assert torch_devices.prove("auto") == torch_devices.prove("auto:1") == "cpu"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), "OUT_OF_MEMORY"),
        (MemoryError(), "OUT_OF_MEMORY"),
        (RuntimeError("CUDA failed with error out of memory"), "OUT_OF_MEMORY"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "OUT_OF_MEMORY"),
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), "DEVICE_FAILED"),
        (RuntimeError("CUDA error: unspecified launch failure"), "DEVICE_FAILED"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "DEVICE_FAILED"),
        (RuntimeError("Found no NVIDIA driver on your system."), "DEVICE_FAILED"),
        (RuntimeError("Library libcublas.so.12 is not found or cannot be loaded"), "DEVICE_FAILED"),
        (AssertionError("Torch not compiled with CUDA enabled"), "DEVICE_FAILED"),
        (RuntimeError("shape '[2, 3]' is invalid for input of size 5"), None),
        (ValueError("CUDA error"), None),
        (StemTubeError("CUDA error in a song's title", "NOT_AUDIO"), None),
    ],
    ids=str,
)
def test_errors_of_devices_are_distinguished_from_others(error: Exception, reason: str | None) -> None:
    found = devices.device_error(error)
    assert (found.reason if found else None) == reason
