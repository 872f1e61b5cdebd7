"""Commands for accounts."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cli.api import Api, ApiError, Json
from cli.options import DEFAULT_URL, Name, Password, Url, User
from cli.running import console, run, signed_in

USERS = "/api/v1/admin/users"


async def all_users(api: Api) -> list[Json]:
    """All accounts.

    Raises:
        ApiError: the suite refuses or does not answer.
    """
    users: list[Json] = []
    token = ""
    while True:
        page = await api.get(f"{USERS}?pageSize=1000&pageToken={token}")
        users += page["users"]
        if not (token := page["nextPageToken"]):
            return users


async def user_named(api: Api, name: str) -> Json:
    """The account with a name.

    Raises:
        ApiError: there is none, or as for `all_users`.
    """
    for user in await all_users(api):
        if user["username"].casefold() == name.casefold():
            return user
    raise ApiError(f"there is no user {name}")


async def add_user(api: Api, name: str, email: str, admin: bool) -> str:
    """Creates an account; returns its one-time password.

    Raises:
        ApiError: as for `all_users`.
    """
    made = await api.post(USERS, {"username": name, "email": email, "admin": admin})
    return str(made["oneTimePassword"])


async def reset_password(api: Api, name: str) -> str:
    """Ends a user's sessions and API tokens; returns a one-time password.

    Raises:
        ApiError: as for `user_named`.
    """
    user = await user_named(api, name)
    return str((await api.post(f"{USERS}/{user['id']}/reset-password", {}))["oneTimePassword"])


async def change_user(api: Api, name: str, changes: Json) -> None:
    """Changes `email`, `admin` or `disabled` of an account.

    Raises:
        ApiError: as for `user_named`.
    """
    user = await user_named(api, name)
    await api.patch(f"{USERS}/{user['id']}", changes)


def show_users(users: list[Json], console: Console) -> None:
    """Prints accounts."""
    table = Table("name", "e-mail", "admin", "state", "since")
    for user in users:
        state = "disabled" if user["disabled"] else "one-time password" if user["mustChangePassword"] else ""
        table.add_row(user["username"], user["email"], "yes" if user["admin"] else "", state, user["createTime"][:10])
    console.print(table)


def list_users_command(url: Url = DEFAULT_URL, user: User = "", password: Password = "") -> None:
    """Lists all accounts."""

    async def work(api: Api) -> None:
        show_users(await all_users(api), console)

    run(signed_in(url, user, password, work))


def add_user_command(
    name: Name,
    email: Annotated[str, typer.Option(help="Can be left out.")] = "",
    admin: Annotated[bool, typer.Option("--admin", help="With an administrator's rights.")] = False,
    url: Url = DEFAULT_URL,
    user: User = "",
    password: Password = "",
) -> None:
    """Creates an account and prints its one-time password, which must be changed."""

    async def work(api: Api) -> None:
        console.print(await add_user(api, name, email, admin), markup=False, highlight=False)

    run(signed_in(url, user, password, work))


def reset_password_command(name: Name, url: Url = DEFAULT_URL, user: User = "", password: Password = "") -> None:
    """Ends a user's sessions and API tokens and prints a one-time password."""

    async def work(api: Api) -> None:
        console.print(await reset_password(api, name), markup=False, highlight=False)

    run(signed_in(url, user, password, work))


def change_user_command(
    name: Name,
    email: Annotated[str | None, typer.Option(help="Empty to remove it.")] = None,
    admin: Annotated[bool | None, typer.Option("--admin/--no-admin", help="An administrator's rights.")] = None,
    disabled: Annotated[bool | None, typer.Option("--disable/--enable", help="Whether they can sign in.")] = None,
    url: Url = DEFAULT_URL,
    user: User = "",
    password: Password = "",
) -> None:
    """Changes an account. A user who loses rights loses sessions and API tokens too."""
    given = {"email": email, "admin": admin, "disabled": disabled}
    changes = {field: value for field, value in given.items() if value is not None}

    async def work(api: Api) -> None:
        await change_user(api, name, changes)

    run(signed_in(url, user, password, work))


def invite_command(
    uses: Annotated[int, typer.Option(help="How many people can register with it.")] = 1,
    days: Annotated[int, typer.Option(help="How long it is valid.")] = 7,
    url: Url = DEFAULT_URL,
    user: User = "",
    password: Password = "",
) -> None:
    """Prints an invitation's code, with which people register (STEMTUBE_AUTH__REGISTRATION=invitation)."""

    async def work(api: Api) -> None:
        body = {"uses": uses, "lifetime": f"{days * 86400}s"}
        console.print((await api.post("/api/v1/admin/invitations", body))["code"], markup=False, highlight=False)

    run(signed_in(url, user, password, work))
