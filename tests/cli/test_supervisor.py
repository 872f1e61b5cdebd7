"""The supervisor with real, small processes."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.local.suite import free_ports
from cli.local.supervisor import CannotStartError, Part, Supervisor, Timings

ROOT = Path(__file__).parents[2]
QUICK = Timings(ready=10.0, stop=2.0, first_backoff=0.05, longest_backoff=0.4)
STUBBORN = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"

# Serves /readyz, prints when it starts and ends, and ends at SIGTERM.
PROGRAM = """
import http.server, os, signal, subprocess, sys, time
port, delay, prelude = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
print("started", os.getpid(), flush=True)
def end(*_):
    print("ending", flush=True)
    time.sleep(delay)
    print("ended", flush=True)
    os._exit(0)
signal.signal(signal.SIGTERM, end)
exec(prelude)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


class Output:
    """The output of the parts, in order."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str]] = []

    def __call__(self, name: str, line: str) -> None:
        self.entries.append((name, line))

    def said(self, name: str, start: str) -> list[str]:
        return [line for who, line in self.entries if who == name and line.startswith(start)]

    def pid(self, name: str) -> int:
        return int(self.said(name, "started")[-1].split()[1])


def part(name: str, order: int = 0, *, delay: float = 0.0, prelude: str = "", port: int = 0) -> Part:
    port = port or free_ports(1)[0]
    return Part(
        name=name,
        command=(sys.executable, "-c", PROGRAM, str(port), str(delay), prelude),
        ready_url=f"http://127.0.0.1:{port}/readyz",
        addresses=[("127.0.0.1", port)],
        environment=dict(os.environ),
        stop_order=order,
    )


async def until(is_true: Callable[[], object], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not is_true():
            await asyncio.sleep(0.02)


async def until_started(output: Output, name: str, times: int) -> None:
    await until(lambda: len(output.said(name, "started")) == times)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_parts_are_ready_when_entered_and_end_in_order(tmp_path: Path) -> None:
    output = Output()
    parts = [part("auth", 2), part("library", 1, delay=0.2), part("gateway", 0, delay=0.2)]
    async with Supervisor(parts, tmp_path / "lock", output, timings=QUICK):
        pids = [output.pid(name) for name in ("auth", "library", "gateway")]
        assert all(is_alive(pid) for pid in pids)
    assert not any(is_alive(pid) for pid in pids)
    endings = [(name, line) for name, line in output.entries if line.startswith("end")]
    steps = ("ending", "ended")
    assert endings == [(name, step) for name in ("gateway", "library", "auth") for step in steps]


async def test_a_crashed_part_comes_back_after_ever_longer_pauses(tmp_path: Path) -> None:
    output = Output()
    async with Supervisor([part("worker"), part("other")], tmp_path / "lock", output, timings=QUICK):
        for crashes in range(1, 5):
            os.kill(output.pid("worker"), signal.SIGKILL)
            await until_started(output, "worker", crashes + 1)
        assert len(output.said("other", "started")) == 1
    told = output.said("worker", "was ended by SIGKILL")
    assert [line.rpartition(" in ")[2] for line in told] == ["0.1 s", "0.1 s", "0.2 s", "0.4 s"]


async def test_the_pause_is_short_again_after_a_steady_run(tmp_path: Path) -> None:
    output = Output()
    timings = Timings(stop=2.0, first_backoff=0.1, steady=0.5)
    async with Supervisor([part("worker")], tmp_path / "lock", output, timings=timings):
        for crashes, wait in ((1, 0.0), (2, 0.0), (3, 0.7)):
            await asyncio.sleep(wait)
            os.kill(output.pid("worker"), signal.SIGKILL)
            await until_started(output, "worker", crashes + 1)
    told = output.said("worker", "was ended by SIGKILL")
    assert [line.rpartition(" in ")[2] for line in told] == ["0.1 s", "0.2 s", "0.1 s"]


async def test_a_part_that_ignores_sigterm_is_killed_and_does_not_delay_others(tmp_path: Path) -> None:
    output = Output()
    parts = [part("gateway", 0, prelude=STUBBORN), part("auth", 1)]
    async with Supervisor(parts, tmp_path / "lock", output, timings=QUICK):
        pids = [output.pid("gateway"), output.pid("auth")]
        began = time.monotonic()
    assert QUICK.stop - 0.1 < time.monotonic() - began < QUICK.stop + 1.0
    assert not any(is_alive(pid) for pid in pids)
    assert output.said("auth", "ended")
    assert not output.said("gateway", "ending")


def test_the_suite_has_less_than_ten_seconds_to_stop() -> None:
    assert Timings().stop < 10


async def test_children_of_a_crashed_part_end_too(tmp_path: Path) -> None:
    output = Output()
    prelude = "print('engine', subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid, flush=True)"
    async with Supervisor([part("worker", prelude=prelude)], tmp_path / "lock", output, timings=QUICK):
        engine = int(output.said("worker", "engine")[0].split()[1])
        assert is_alive(engine)
        os.kill(output.pid("worker"), signal.SIGKILL)
        await until(lambda: len(output.said("worker", "started")) == 2)
        assert not is_alive(engine)


async def test_a_taken_port_is_reported_in_one_line(tmp_path: Path) -> None:
    taken = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    output = Output()
    async with taken:
        with pytest.raises(CannotStartError, match=rf"gateway cannot listen on 127\.0\.0\.1:{port}.*--port-base"):
            async with Supervisor([part("auth"), part("gateway", port=port)], tmp_path / "lock", output):
                pass
    assert output.entries == []


async def test_one_data_directory_serves_one_suite_at_a_time(tmp_path: Path) -> None:
    lock = tmp_path / "data" / "suite.lock"
    async with Supervisor([part("auth")], lock, Output(), timings=QUICK):
        with pytest.raises(CannotStartError, match="data is in use"):
            async with Supervisor([part("auth")], lock, Output()):
                pass
    async with Supervisor([part("auth")], lock, Output(), timings=QUICK):
        pass


async def test_a_part_that_cannot_start_ends_the_start_with_its_last_words(tmp_path: Path) -> None:
    output = Output()
    prelude = "time.sleep(0.5); sys.exit('stemtube: wrong setting STEMTUBE_X: must be a number')"
    broken = part("library", prelude=prelude)
    message = r"library ended with status 1 while starting: .*wrong setting STEMTUBE_X"
    with pytest.raises(CannotStartError, match=message):
        async with Supervisor([part("auth"), broken], tmp_path / "lock", output, timings=QUICK):
            pass
    assert not is_alive(output.pid("auth"))


async def test_a_part_that_never_gets_ready_is_named(tmp_path: Path) -> None:
    timings = Timings(ready=1.0, stop=1.0)
    parts = [part("auth"), part("library", prelude="time.sleep(60)")]
    with pytest.raises(CannotStartError, match=r"not ready after 1 s: library$"):
        async with Supervisor(parts, tmp_path / "lock", Output(), timings=timings):
            pass


async def test_very_long_lines_are_handled(tmp_path: Path) -> None:
    output = Output()
    prelude = "print('x' * 300_000); print('after', flush=True)"
    async with Supervisor([part("worker", prelude=prelude)], tmp_path / "lock", output, timings=QUICK):
        await until(lambda: output.said("worker", "after"))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_parts_do_not_outlive_their_supervisor(tmp_path: Path, how: signal.Signals) -> None:
    """SIGKILL leaves the supervisor no time to stop them."""
    sleeper = tmp_path / "sleeper.py"
    sleeper.write_text("import os, time\nprint('pid', os.getpid(), flush=True)\ntime.sleep(60)\n")
    (tmp_path / "run.py").write_text(
        "import asyncio, os, sys\n"
        "from pathlib import Path\n"
        "from cli.local.supervisor import Part, Supervisor\n"
        "async def main():\n"
        "    command = (sys.executable, '-m', 'cli.local.child', 'sleeper')\n"
        "    part = Part('sleeper', command, 'http://127.0.0.1:9/readyz', [], dict(os.environ))\n"
        "    await Supervisor([part], Path('lock'), lambda _, line: print(line, flush=True)).__aenter__()\n"
        "asyncio.run(main())\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    with subprocess.Popen(
        [sys.executable, "run.py"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    ) as supervisor:
        assert supervisor.stdout
        pid = int(supervisor.stdout.readline().split()[1])
        assert is_alive(pid)
        supervisor.send_signal(how)
    deadline = time.monotonic() + 5
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(pid)
