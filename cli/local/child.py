"""Runs a module as a child of the supervisor, and ends with it: `python -m cli.local.child MODULE [ARGUMENTS]`.

Standard input is a pipe whose other end only the supervisor has. It closes when the supervisor dies, for whatever
reason and on every system. The kernel's notice (PR_SET_PDEATHSIG) exists only on Linux and depends on the thread.
"""

import contextlib
import os
import runpy
import signal
import sys
import threading
import time

GRACE_SECONDS = 10.0


def _end_with_supervisor(leash: int) -> None:
    os.read(leash, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    # The supervisor made this process the leader of its own group, so its children end too.
    with contextlib.suppress(OSError):
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def main() -> None:
    """Runs the module named on the command line as `__main__`."""
    leash = os.dup(sys.stdin.fileno())
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, sys.stdin.fileno())
    os.close(nothing)
    threading.Thread(target=_end_with_supervisor, args=(leash,), name="leash", daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
