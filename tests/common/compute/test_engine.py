"""The child process for heavy work keeps its models, can be stopped, and is replaced when it dies."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import structlog

from services.common.compute.engine import Engine, WorkerDiedError
from services.common.config import LogSettings
from services.common.errors import Code, StemTubeError, StoppedError
from tests.common.compute.engine_work import HesitantWork, Work


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    engine = Engine("test-engine", Work, "plain", LogSettings(), idle_seconds=30)
    yield engine
    await engine.close()


def ignore(*_arguments: Any, **_detail: Any) -> None:
    pass


async def test_progress_parts_and_result_come_back_and_the_child_stays_warm(engine: Engine) -> None:
    told: list[tuple[str, float, int]] = []
    kept: dict[str, Any] = {}
    first = await engine.run(
        {"do": "count"}, lambda stage, fraction, number: told.append((stage, fraction, number)), kept.__setitem__
    )
    assert first["settings"] == "plain"
    assert told[-1] == ("counting", 1.0, 9)
    assert [fraction for _, fraction, _ in told] == sorted(fraction for _, fraction, _ in told)
    assert kept == {"half": {"value": 5}}
    second = await engine.run({"do": "count"}, ignore)
    assert (second["pid"], second["tasks"]) == (first["pid"], 2)


async def test_a_full_disk_is_worth_another_attempt(engine: Engine) -> None:
    with pytest.raises(StemTubeError) as full:
        await engine.run({"do": "full_disk"}, ignore)
    assert (full.value.code, full.value.reason) == (Code.UNAVAILABLE, "DISK_FULL")


async def test_errors_of_a_task_keep_code_and_reason_but_bugs_reveal_nothing(engine: Engine) -> None:
    with pytest.raises(StemTubeError, match="no audio") as refused:
        await engine.run({"do": "refuse"}, ignore)
    assert (refused.value.code, refused.value.reason) == (Code.INVALID_ARGUMENT, "NOT_AUDIO")
    with pytest.raises(StemTubeError) as fault:
        await engine.run({"do": "fault"}, ignore)
    assert fault.value.code == Code.INTERNAL
    assert "secret" not in str(fault.value)
    assert (await engine.run({"do": "count"}, ignore))["tasks"] == 3


async def test_the_childs_logs_name_the_job(capfd: pytest.CaptureFixture[str]) -> None:
    engine = Engine("test-engine", Work, "plain", LogSettings(format="json"))
    with structlog.contextvars.bound_contextvars(job="j1", user="anna"), pytest.raises(StemTubeError):
        await engine.run({"do": "fault"}, ignore)
    await engine.close()
    (line,) = (json.loads(line) for line in capfd.readouterr().err.splitlines() if "task failed" in line)
    assert (line["service"], line["job"], line["user"]) == ("test-engine", "j1", "anna")


async def test_a_crash_ends_only_its_task(engine: Engine) -> None:
    with pytest.raises(WorkerDiedError, match="SIGABRT"):
        await engine.run({"do": "die"}, ignore)
    assert (await engine.run({"do": "count"}, ignore))["tasks"] == 1


async def test_raising_from_the_report_stops_the_task_and_keeps_the_child(engine: Engine) -> None:
    warm = await engine.run({"do": "count"}, ignore)

    def stop(*_arguments: Any, **_detail: Any) -> None:
        raise StoppedError("enough")

    began = time.monotonic()
    with pytest.raises(StoppedError):
        await engine.run({"do": "long"}, stop)
    assert time.monotonic() - began < 2
    assert (await engine.run({"do": "count"}, ignore))["pid"] == warm["pid"]


async def test_cancelling_ends_even_a_task_that_ignores_it(engine: Engine) -> None:
    warm = await engine.run({"do": "count"}, ignore)
    running = asyncio.create_task(engine.run({"do": "deaf"}, ignore))
    await asyncio.sleep(0.5)
    began = time.monotonic()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert time.monotonic() - began < 3
    with pytest.raises(ProcessLookupError):
        os.kill(warm["pid"], 0)
    assert (await engine.run({"do": "count"}, ignore))["tasks"] == 1


async def test_the_next_task_waits_until_a_cancelled_one_has_stopped(engine: Engine) -> None:
    """After a second cancellation the next task once started too early, and ended with the first one's child."""
    await engine.run({"do": "count"}, ignore)
    running = asyncio.create_task(engine.run({"do": "deaf"}, ignore))
    await asyncio.sleep(0.5)
    following = asyncio.create_task(engine.run({"do": "count"}, ignore))
    for _ in range(3):
        running.cancel()
        await asyncio.sleep(0.1)
    assert (await following)["tasks"] == 1
    assert running.cancelled()


async def test_a_result_never_goes_to_the_next_task(engine: Engine) -> None:
    """It once did when the parent could not store a result: the child's answer stayed in the pipe."""

    def full(*_arguments: Any, **_detail: Any) -> None:
        raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="disk"):
        await engine.run({"do": "count"}, full)
    with pytest.raises(StemTubeError, match="no audio"):
        await engine.run({"do": "refuse"}, ignore)


async def test_the_child_ends_with_its_parent(tmp_path: Path) -> None:
    program = (
        "import asyncio, os, sys\n"
        "from services.common.config import LogSettings\n"
        "from services.common.compute.engine import Engine\n"
        "from tests.common.compute.engine_work import Work\n"
        "async def main():\n"
        "    engine = Engine('test-engine', Work, 'plain', LogSettings())\n"
        "    print((await engine.run({'do': 'count'}, lambda *a, **d: None))['pid'], flush=True)\n"
        "    await asyncio.sleep(0.3)\n"
        "    await engine.run({'do': 'deaf'}, lambda *a, **d: print('deaf', flush=True))\n"
        "if __name__ == '__main__':\n"
        "    asyncio.run(main())\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(program)
    root = Path(__file__).parents[3]
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        str(script),
        cwd=root,
        env={**os.environ, "PYTHONPATH": f"{root}:{root}/protos/gen"},
        stdout=asyncio.subprocess.PIPE,
    )
    assert parent.stdout
    lines: list[str] = []
    async with asyncio.timeout(30):
        while "deaf" not in lines:
            lines.append((await parent.stdout.readline()).decode().strip())
    pid = next(int(line) for line in lines if line.isdigit())
    parent.kill()
    await parent.wait()
    async with asyncio.timeout(5):
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.05)


async def test_long_tasks_do_not_occupy_shared_threads(engine: Engine) -> None:
    """Each once held one of the few threads that also read files, so a few hanging links stopped everything."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    began = asyncio.Event()
    loop = asyncio.get_running_loop()

    def begin(*_arguments: Any, **_detail: Any) -> None:
        loop.call_soon_threadsafe(began.set)

    task = asyncio.create_task(engine.run({"do": "long"}, begin))
    async with asyncio.timeout(60):
        await began.wait()
        await asyncio.to_thread(time.sleep, 0)
    assert not task.done()
    task.cancel()
    await asyncio.wait({task})


async def test_tasks_take_turns(engine: Engine) -> None:
    results = await asyncio.gather(*(engine.run({"do": "count"}, ignore) for _ in range(3)))
    assert sorted(result["tasks"] for result in results) == [1, 2, 3]
    assert len({result["pid"] for result in results}) == 1


async def test_an_idle_child_ends_and_the_next_task_starts_another() -> None:
    engine = Engine("test-engine", Work, "plain", LogSettings(), idle_seconds=0.2)
    first = await engine.run({"do": "count"}, ignore)
    await asyncio.sleep(1.5)
    second = await engine.run({"do": "count"}, ignore)
    assert second["pid"] != first["pid"]
    await engine.close()


def until(path: Path) -> None:
    give_up = time.monotonic() + 30
    while not path.exists() and time.monotonic() < give_up:
        time.sleep(0.02)
    assert path.exists()


async def test_a_child_runs_its_preparations_before_its_first_task(tmp_path: Path) -> None:
    engine = Engine("test-engine", Work, str(tmp_path), LogSettings(), preparations=Work.preparations)
    for number in range(3):
        (tmp_path / f"go-{number}").touch()
    await engine.prepare()
    await asyncio.to_thread(until, tmp_path / "done-2")
    assert (await engine.run({"do": "count"}, ignore))["tasks"] == 1
    await engine.close()


async def test_a_task_waits_for_one_step_of_the_preparations_at_most(tmp_path: Path) -> None:
    engine = Engine("test-engine", Work, str(tmp_path), LogSettings(), preparations=Work.preparations)
    await engine.prepare()
    task = asyncio.create_task(engine.run({"do": "count"}, ignore))
    await asyncio.sleep(0.3)
    (tmp_path / "go-0").touch()
    assert (await task)["tasks"] == 1
    assert not (tmp_path / "done-1").exists()
    await engine.close()


async def test_preparations_that_fail_leave_a_child_that_works(capfd: pytest.CaptureFixture[str]) -> None:
    engine = Engine("test-engine", Work, "plain", LogSettings(), preparations=Work.broken_preparations)
    await engine.prepare()
    first = await engine.run({"do": "count"}, ignore)
    assert first["tasks"] == 1
    await engine.close()


async def test_a_prepared_child_without_tasks_ends(tmp_path: Path) -> None:
    engine = Engine("test-engine", Work, str(tmp_path), LogSettings(), 0.2, Work.preparations)
    for number in range(3):
        (tmp_path / f"go-{number}").touch()
    await engine.prepare()
    await asyncio.to_thread(until, tmp_path / "done-2")
    (child,) = (process for process in psutil.Process().children() if "spawn_main" in process.cmdline()[-2])
    child.wait(10)
    await engine.close()


async def test_threads_of_a_task_can_report_at_the_same_time(engine: Engine) -> None:
    """Messages of a few hundred kB that two threads sent at the same time were once mixed up in the pipe."""
    kept: dict[str, Any] = {}
    await engine.run({"do": "threads"}, ignore, kept.__setitem__)
    assert {name: set(content) for name, content in kept.items()} == {str(n): {str(n)} for n in range(8)}


async def test_a_task_for_a_child_that_is_ending_runs_in_another() -> None:
    engine = Engine("test-engine", HesitantWork, "", LogSettings(), idle_seconds=0.5)
    try:
        first = await engine.run({"number": 1}, ignore)
        await asyncio.sleep(1.2)
        second = await engine.run({"number": 2}, ignore)
        assert (first["number"], second["number"]) == (1, 2)
        assert first["pid"] != second["pid"]
    finally:
        await engine.close()
