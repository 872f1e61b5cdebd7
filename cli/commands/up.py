"""Runs the suite on this machine."""

import asyncio
import os
from typing import Annotated

import typer

from cli.commands.demo import LOCK
from cli.local.suite import SuiteSettings, log_file
from cli.local.supervisor import Supervisor
from cli.running import console, fail, run
from services.common.config import load

COLOURS = {"auth": "magenta", "download": "cyan", "separation": "green", "analysis": "yellow", "gateway": "blue"}


def up_command(
    port_base: Annotated[
        int | None,
        typer.Option(
            help="Port of the gateway; the next nine are also used. 0: free ports. Default: those in the settings."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Write logs to DATA_DIR/logs/suite.log only.")] = False,
) -> None:
    """Runs the suite on this machine until Ctrl-C."""
    settings = load(SuiteSettings)
    try:
        settings = settings.at_ports(port_base)
    except ValueError as error:
        fail(str(error))
    run(_up(settings, quiet), ends_with_signal=True)


async def _up(settings: SuiteSettings, quiet: bool) -> None:
    log = settings.data_dir / "logs" / "suite.log"
    was_first_start = settings.is_first_start
    had_password = settings.admin_password_file.exists()
    console.print("Starting auth, download, separation, analysis and the gateway …", highlight=False)
    show = log_file(log) if quiet else _print_log
    async with Supervisor(settings.parts(os.environ), settings.data_dir / LOCK, show):
        console.print(f"\nStemTube is at {settings.gateway.public_url or settings.url}", style="bold", highlight=False)
        console.print(f"Its API is described at {settings.url}/api/docs", highlight=False)
        file, name = settings.admin_password_file, settings.auth.admin_username
        if file.exists() and not had_password:
            hint = f"with the one-time password {file.read_text().strip()} (kept in {file})"
        elif was_first_start and settings.admin_password:
            hint = "with the password of STEMTUBE_ADMIN_PASSWORD"
        else:
            hint = f"as before (the first password is in {file})" if file.exists() else "as before"
        console.print(f"Sign in as {name} {hint}.", markup=False, highlight=False)
        console.print(f"Ctrl-C stops it.{f' Its log is {log}.' if quiet else ''}\n", highlight=False)
        try:
            await asyncio.Event().wait()
        finally:
            console.print("\nStopping …", highlight=False)


def _print_log(name: str, line: str) -> None:
    console.print(f"[{COLOURS.get(name, 'white')}]{name:<10}[/]", end=" ")
    console.print(line, markup=False, highlight=False, soft_wrap=True)
