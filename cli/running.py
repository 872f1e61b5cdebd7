"""Runs a command: signs in, handles signals, and prints errors in one line."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NoReturn, TypeVar

from rich.console import Console

from cli.api import Api, ApiError
from cli.local.suite import SuiteSettings, is_this_machine
from cli.local.supervisor import CannotStartError
from services.common.config import load
from services.common.errors import StemTubeError

# Lines in a file or a pipe are not cut to a terminal's width.
console = Console() if sys.stdout.isatty() else Console(width=200)
errors = Console(stderr=True)

T = TypeVar("T")
ENDED_BY_SIGNAL = 128


def run(work: Coroutine[Any, Any, T], *, ends_with_signal: bool = False) -> T:
    """Runs a command to its end. A signal cancels it, so that it cleans up.

    Args:
        work: the coroutine to run.
        ends_with_signal: whether a signal is its regular end.

    Raises:
        SystemExit: status 1 and one line if it fails; 128 plus the number of the signal if a signal ends it.
    """
    received: list[int] = []

    async def until_signal() -> T:
        task = asyncio.ensure_future(work)

        def end(number: int) -> None:
            received.append(number)
            task.cancel()

        nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        for number in (signal.SIGINT, signal.SIGTERM, *(() if nohup else (signal.SIGHUP,))):
            asyncio.get_running_loop().add_signal_handler(number, end, number)
        return await task

    try:
        return asyncio.run(until_signal())
    except asyncio.CancelledError:
        number = received[0] if received else signal.SIGINT
        sys.exit(0 if ends_with_signal else ENDED_BY_SIGNAL + number)
    except (ApiError, CannotStartError, StemTubeError, OSError) as error:
        fail(str(error), *getattr(error, "__notes__", ()))


def fail(*lines: str) -> NoReturn:
    """Ends the command with status 1 and these lines on standard error."""
    for line in lines:
        errors.print(f"stemtube: {line}", style="red", highlight=False, markup=False, soft_wrap=True)
    sys.exit(1)


async def signed_in(
    url: str,
    user: str,
    password: str,
    work: Callable[[Api], Awaitable[T]],
    *,
    may_have_one_time_password: bool = False,
) -> T:
    """Runs `work` with a client that is signed in.

    Raises:
        ApiError: no password is known, the suite refuses it, or it is a one-time password that must be changed first.
    """
    settings = load(SuiteSettings)
    async with Api(url) as api:
        await api.sign_in(user or settings.auth.admin_username, password or admin_password(settings, url))
        if api.must_change_password and not may_have_one_time_password:
            raise ApiError("this is a one-time password: choose your own with `stemtube password`")
        return await work(api)


def admin_password(settings: SuiteSettings, url: str) -> str:
    """The administrator's password, from the settings or from the file of the first start on this machine.

    Raises:
        ApiError: there is neither.
    """
    if given := settings.admin_password.get_secret_value():
        return given
    if is_this_machine(url):
        try:
            return settings.admin_password_file.read_text().strip()
        except OSError:
            pass
    raise ApiError("who are you? Give --user and --password, or set STEMTUBE_USER and STEMTUBE_PASSWORD")
