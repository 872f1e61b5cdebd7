"""Starts every `__main__`: prints `--help` with all settings, reads settings, sets up logs, runs the role."""

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import structlog

from services.common.config import SettingsType, describe, load
from services.common.errors import StemTubeError
from services.common.observe import tracing
from services.common.observe.telemetry import configure_logging

Role = Callable[[SettingsType], Coroutine[Any, Any, None]]


def run(
    name: str,
    summary: str,
    settings_class: type[SettingsType],
    roles: Mapping[str, Role[SettingsType]],
    arguments: Sequence[str] | None = None,
) -> None:
    """Runs one role of a process until it ends.

    Args:
        name: the process, as in `python -m services.NAME`.
        summary: one line for `--help`.
        settings_class: the settings; each is listed in `--help`.
        roles: coroutine functions by role; the first is the default.
        arguments: the command line, without the program's name.

    Raises:
        SystemExit: with status 1 and one line on standard error if the process cannot start.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {name}",
        description=summary,
        epilog="settings (environment variables):\n" + "\n".join(describe(settings_class)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "role", nargs="?", choices=list(roles), default=next(iter(roles)), help="what this process does"
    )
    role = parser.parse_args(arguments).role
    settings = load(settings_class)
    service = name.rpartition(".")[2]
    process = service if len(roles) == 1 else f"{service}-{role}"
    try:
        configure_logging(settings.log, process)
        tracing.configure_tracing(settings.tracing, process)
        asyncio.run(roles[role](settings))
    except (OSError, StemTubeError) as error:
        structlog.get_logger(__name__).error(
            "cannot start", error=str(error), **({"reason": error.reason} if isinstance(error, StemTubeError) else {})
        )
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        tracing.close()
