"""Imports an installation of the old StemTube."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from cli.legacy.importing import import_stemtube, show_report
from cli.legacy.installation import OldInstallation
from cli.legacy.services import ImportServices
from cli.local.suite import SuiteSettings
from cli.options import Password, User
from cli.running import admin_password, console, run
from services.common.config import load


def import_command(
    folder: Annotated[Path, typer.Argument(help="The folder of the old StemTube; it is only read.")],
    apply: Annotated[bool, typer.Option("--apply", help="Import; without this, only report.")] = False,
    user: User = "",
    password: Password = "",
) -> None:
    """Imports users and tracks of the old StemTube, with their stems and results.

    It connects to the services: STEMTUBE_ADDRESS__AUTH and STEMTUBE_ADDRESS__DOWNLOAD, if not on this machine.
    """

    async def work() -> None:
        settings = load(SuiteSettings)
        name = user or settings.auth.admin_username
        known = password or admin_password(settings, f"//{settings.address.auth}")
        old = OldInstallation(folder)
        async with ImportServices(settings.address, name, known) as services:
            with console.status("reading") as status:
                report = await import_stemtube(old, services, lambda doing: status.update(escape(doing)), apply=apply)
        show_report(report, console, apply=apply)

    run(work())
