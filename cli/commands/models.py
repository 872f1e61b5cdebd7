"""Models on this machine: the service that knows a name fetches its weights, in a process of its own."""

import subprocess
import sys

SERVICES = ("separation", "analysis")


def pull(name: str) -> int:
    """Fetches a model's weights, with progress on standard error; the exit status."""
    commands = [[sys.executable, "-m", f"services.{service}.pull"] for service in SERVICES]
    for command in commands:
        if subprocess.run([*command, "--find", name], stderr=subprocess.DEVNULL, check=False).returncode == 0:
            return subprocess.run([*command, name], check=False).returncode
    sys.stderr.write(f"stemtube: there is no model {name!r}: `stemtube models list` shows all\n")
    return 1
