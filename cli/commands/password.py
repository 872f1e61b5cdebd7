"""Changes the password of the user who runs it."""

from typing import Annotated

import typer

from cli.api import Api
from cli.local.suite import SuiteSettings, is_this_machine
from cli.options import DEFAULT_URL, Password, Url, User
from cli.running import console, run, signed_in
from services.common.config import load


def password_command(
    url: Url = DEFAULT_URL,
    user: User = "",
    password: Password = "",
    new_password: Annotated[
        str,
        typer.Option(
            envvar="STEMTUBE_NEW_PASSWORD",
            prompt="New password",
            hide_input=True,
            confirmation_prompt=True,
            help="8 to 1024 characters; asked for unless given.",
        ),
    ] = "",
    keep_tokens: Annotated[bool, typer.Option("--keep-tokens", help="Your API tokens stay valid.")] = False,
) -> None:
    """Changes your password and ends your other sessions and your API tokens."""

    async def work(api: Api) -> None:
        first = load(SuiteSettings).admin_password_file
        await api.change_password(new_password, end_tokens=not keep_tokens)
        console.print("The password is changed.")
        # The one-time password is no longer valid.
        if not password and is_this_machine(url):
            first.unlink(missing_ok=True)

    run(signed_in(url, user, password, work, may_have_one_time_password=True))
