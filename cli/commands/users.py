"""Accounts, as administrators and their owners manage them from the command line."""

from rich.console import Console
from rich.table import Table

from cli.api import Api, ApiError, Json

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
    """Makes an account; returns its one-time password.

    Raises:
        ApiError: as for `all_users`.
    """
    made = await api.post(USERS, {"username": name, "email": email, "admin": admin})
    return str(made["oneTimePassword"])


async def reset_password(api: Api, name: str) -> str:
    """Ends all that a user has open; returns a one-time password.

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
