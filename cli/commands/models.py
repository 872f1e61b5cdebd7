"""Models on this machine: the service that has a model fetches its weights, in a separate process."""

import subprocess
import sys
from typing import Annotated, Any

import typer
from rich.table import Table

from cli.api import Api
from cli.options import DEFAULT_URL, Password, Url, User
from cli.running import console, run, signed_in

SERVICES = ("separation", "analysis")


def pull(name: str) -> int:
    """Fetches a model's weights, with progress on standard error; returns the exit status."""
    commands = [[sys.executable, "-m", f"services.{service}.pull"] for service in SERVICES]
    for command in commands:
        if subprocess.run([*command, "--find", name], stderr=subprocess.DEVNULL, check=False).returncode == 0:
            return subprocess.run([*command, name], check=False).returncode
    sys.stderr.write(f"stemtube: there is no model {name!r}: `stemtube models list` shows all\n")
    return 1


def list_models_command(url: Url = DEFAULT_URL, user: User = "", password: Password = "") -> None:
    """Lists the available and the missing models."""

    async def work(api: Api) -> None:
        table = Table("for", "name", "here", "licence", "what is missing")
        for model in (await api.get("/api/v1/models"))["models"]:
            _add_row(table, "separation", model, model["license"])
        for backend in (await api.get("/api/v1/backends"))["backends"]:
            part = backend["part"].removeprefix("PART_").lower()
            _add_row(table, part, backend, backend["license"])
            for model in backend["models"]:
                _add_row(table, part, {**model, "name": f"{backend['name']}/{model['name']}"}, "")
        console.print(table)

    run(signed_in(url, user, password, work))


def _add_row(table: Table, part: str, choice: dict[str, Any], licence: str) -> None:
    usable = choice["availability"]
    name = choice["name"] + (" (auto)" if choice["default"] else "")
    table.add_row(part, name, "yes" if usable["available"] else "no", licence, usable["unavailableReason"])


def pull_command(name: Annotated[str, typer.Argument(help="A name that `stemtube models list` shows.")]) -> None:
    """Fetches the weights of a model into the models directory."""
    raise typer.Exit(pull(name))
