"""Shows the state of the suite on this machine."""

from typing import Annotated

import typer

from cli.backup.backup import database_faults
from cli.local import status
from cli.local.suite import SuiteSettings
from cli.running import console, run
from services.common.config import load


def status_command(
    as_json: Annotated[bool, typer.Option("--json", help="The same as JSON.")] = False,
) -> None:
    """Shows processes, queues, workers, GPUs and last errors of this machine; ends with 1 if a process is not ready."""
    settings = load(SuiteSettings)
    processes = run(status.ask(settings.health_urls))
    faults = run(database_faults(settings, [process.name for process in processes if process.state != "ready"]))
    if as_json:
        console.print_json(data=status.as_json(processes) | {"databases": faults})
    else:
        status.show(processes, console)
        for fault in faults.values():
            console.print(fault["message"], style="red", highlight=False, markup=False, soft_wrap=True)
    if any(process.state != "ready" for process in processes):
        raise typer.Exit(1)
