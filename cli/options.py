"""Options and arguments that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_URL = "http://127.0.0.1:8080"

Url = Annotated[str, typer.Option(envvar="STEMTUBE_URL", help="Address of the gateway.")]
User = Annotated[str, typer.Option(envvar="STEMTUBE_USER", help="Name to sign in with; default: the admin.")]
Password = Annotated[
    str,
    typer.Option(
        envvar="STEMTUBE_PASSWORD",
        show_envvar=True,
        help="Default: STEMTUBE_ADMIN_PASSWORD, or the password of the first start in this machine's data directory.",
    ),
]
Name = Annotated[str, typer.Argument(help="Name of the account.")]
Out = Annotated[Path, typer.Option(help="Stems are saved here, in a folder named after the song.")]
