"""Options and arguments that several commands take."""

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_URL = "http://127.0.0.1:8080"

Url = Annotated[str, typer.Option(envvar="STEMTUBE_URL", help="Address of the gateway.")]
User = Annotated[str, typer.Option(envvar="STEMTUBE_USER", help="Who signs in; the admin unless given.")]
Password = Annotated[
    str,
    typer.Option(
        envvar="STEMTUBE_PASSWORD",
        show_envvar=True,
        help="Unless given: STEMTUBE_ADMIN_PASSWORD, or what the first start left in this machine's data directory.",
    ),
]
Name = Annotated[str, typer.Argument(help="Of the account.")]
Out = Annotated[Path, typer.Option(help="Stems are saved here, in a folder named after the song.")]
