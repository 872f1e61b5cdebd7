"""The `stemtube` command."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.api import Api, ApiError
from cli.backup.backup import backup, database_faults
from cli.backup.restore import restore
from cli.commands.add import Added, add
from cli.commands.admin import cleanup, copying, show_backup, show_cleanup, show_restored
from cli.commands.certs import make_certificates
from cli.commands.demo import LOCK, run_demo
from cli.commands.export import export
from cli.commands.models import pull
from cli.commands.process import make_options, process
from cli.commands.users import add_user, all_users, change_user, reset_password, show_users
from cli.legacy.importing import import_stemtube, show_report
from cli.legacy.installation import OldInstallation
from cli.legacy.services import ImportServices
from cli.local import status
from cli.local.suite import SERVICES, SuiteSettings, is_this_machine, log_file
from cli.local.supervisor import CannotStartError, Supervisor
from services.common.config import load
from services.common.errors import StemTubeError

app = typer.Typer(
    help="Stems, beats, tempo, key, chords, lyrics and structure of songs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
models_app = typer.Typer(help="Separation models and analysis backends.", no_args_is_help=True)
app.add_typer(models_app, name="models")
admin_app = typer.Typer(help="What administrators do.", no_args_is_help=True)
app.add_typer(admin_app, name="admin")
users_app = typer.Typer(help="Accounts.", no_args_is_help=True)
admin_app.add_typer(users_app, name="users")

# Lines in a file or a pipe are not cut to the width of some terminal.
console = Console() if sys.stdout.isatty() else Console(width=200)
errors = Console(stderr=True)

T = TypeVar("T")
DEFAULT_URL = "http://127.0.0.1:8080"
COLOURS = {"auth": "magenta", "download": "cyan", "separation": "green", "analysis": "yellow", "gateway": "blue"}
ENDED_BY_SIGNAL = 128

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


@app.command()
def up(
    port_base: Annotated[
        int | None,
        typer.Option(
            help="Port of the gateway; the next nine are taken too. 0: any free ones. Unless given: the settings."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Write logs to DATA_DIR/logs/suite.log only.")] = False,
) -> None:
    """Runs the suite on this machine until Ctrl-C."""
    settings = load(SuiteSettings)
    try:
        settings = settings.at_ports(port_base)
    except ValueError as error:
        _fail(str(error))
    _run(_up(settings, quiet), ends_with_signal=True)


@app.command("process")
def process_command(
    source: Annotated[str, typer.Argument(help="A file, or an http(s) link.")],
    url: Url = DEFAULT_URL,
    user: User = "",
    password: Password = "",
    out: Out = Path("out"),
    stems: Annotated[bool, typer.Option(help="Save the stems.")] = True,
    model: Annotated[list[str] | None, typer.Option(help="Separation model; can be given several times.")] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(help="PART=BACKEND or PART=BACKEND/MODEL, such as chords=madmom or lyrics=whisper/small."),
    ] = None,
    language: Annotated[str, typer.Option(help="Of the lyrics, such as en; detected unless given.")] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the full result as JSON, with the saved stems as files.")
    ] = False,
) -> None:
    """Processes a song on a running suite and prints what was found."""

    async def work(api: Api) -> bool:
        options = make_options(model or (), backend or (), language)
        outcome = await process(api, source, out if stems else None, console, options=options, as_json=as_json)
        return bool(outcome.failed)

    if _run(_signed_in(url, user, password, work)):
        raise typer.Exit(1)


@app.command("export")
def export_command(
    track: Annotated[str, typer.Argument(help="A track's id, or words of its title and artist.")],
    file_format: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT", help="lrc, srt, chordpro, midi, stems, mixdown, stem.mp4 …; /api/docs has all."
        ),
    ],
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="NAME=VALUE, such as stems=vocals:-3,drums.")
    ] = None,
    url: Url = DEFAULT_URL,
    user: User = "",
    password: Password = "",
    out: Annotated[Path, typer.Option(help="The folder to save it in.")] = Path(),
) -> None:
    """Saves a track as a file for another program: lyrics, chords, MIDI, mixes, stems."""

    async def work(api: Api) -> None:
        saved = await export(api, track, file_format, option or (), out)
        console.print(str(saved), markup=False, highlight=False, soft_wrap=True)

    _run(_signed_in(url, user, password, work))


@app.command("add")
def add_command(
    sources: Annotated[list[str], typer.Argument(help="Folders, files and http(s) links.")],
    url: Url = DEFAULT_URL,
    user: User = "",
    password: Password = "",
    model: Annotated[list[str] | None, typer.Option(help="As for process.")] = None,
    backend: Annotated[list[str] | None, typer.Option(help="As for process.")] = None,
    language: Annotated[str, typer.Option(help="Of the lyrics, such as en; detected unless given.")] = "",
) -> None:
    """Adds songs to the library of a running suite, all that are below a folder; ends with 1 unless all could be."""

    async def work(api: Api) -> Added:
        return await add(api, sources, console, make_options(model or (), backend or (), language))

    if not _run(_signed_in(url, user, password, work)).is_complete:
        raise typer.Exit(1)


@app.command()
def demo(
    song: Annotated[Path | None, typer.Argument(help="A song of yours; one is made unless given.")] = None,
    out: Out = Path("out"),
) -> None:
    """Starts a suite of its own, processes a song, prints what was found, and stops the suite."""
    _run(run_demo(load(SuiteSettings), song, out, console))


@app.command("status")
def status_command(
    as_json: Annotated[bool, typer.Option("--json", help="The same as JSON.")] = False,
) -> None:
    """Processes, queues, workers, GPUs and last errors of this machine's suite; ends with 1 if one is not ready."""
    settings = load(SuiteSettings)
    processes = _run(status.ask(settings.health_urls))
    faults = _run(database_faults(settings, [process.name for process in processes if process.state != "ready"]))
    if as_json:
        console.print_json(data=status.as_json(processes) | {"databases": faults})
    else:
        status.show(processes, console)
        for fault in faults.values():
            console.print(fault["message"], style="red", highlight=False, markup=False, soft_wrap=True)
    if any(process.state != "ready" for process in processes):
        raise typer.Exit(1)


@models_app.command("list")
def list_models(url: Url = DEFAULT_URL, user: User = "", password: Password = "") -> None:
    """What can be chosen, and what is missing."""

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

    _run(_signed_in(url, user, password, work))


@models_app.command("pull")
def pull_model(
    name: Annotated[str, typer.Argument(help="A name that `stemtube models list` shows.")],
    model: Annotated[str, typer.Argument(help="Of a backend with several models.")] = "",
) -> None:
    """Fetches the weights of a model into the models directory."""
    raise typer.Exit(pull(f"{name}/{model}" if model else name))


@admin_app.command("cleanup")
def cleanup_command(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be removed.")] = False,
    url: Url = DEFAULT_URL,
    user: User = "",
    password: Password = "",
) -> None:
    """Removes objects that no record needs and records whose objects are gone."""

    async def work(api: Api) -> None:
        show_cleanup(await cleanup(api, dry_run=dry_run), console)

    _run(_signed_in(url, user, password, work))


@admin_app.command("backup")
def backup_command(folder: Annotated[Path, typer.Argument(help="Is made; if it is there, it must be empty.")]) -> None:
    """Copies all databases and objects into a folder, while the suite runs; ends with 1 if an original is damaged."""
    with copying(console) as tell:
        made = _run(backup(load(SuiteSettings), folder, tell))
    show_backup(made, folder, console)
    if made.damaged:
        raise typer.Exit(1)


@admin_app.command("restore")
def restore_command(
    folder: Annotated[Path, typer.Argument(help="What `backup` made.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the databases and objects that are there.")] = False,
    keep_sign_ins: Annotated[
        bool,
        typer.Option(
            "--keep-sign-ins",
            help="Keep sessions, API tokens, invitations, one-time passwords and signing keys as they were then. What "
            "was ended since the backup is good again; otherwise all of them end.",
        ),
    ] = False,
) -> None:
    """Puts a backup back, once its checksums are found right. The suite must be stopped."""
    with copying(console) as tell:
        work = restore(load(SuiteSettings), folder, tell, force=force, keep_sign_ins=keep_sign_ins)
        restored = _run(work)
    show_restored(restored, folder, console, keep_sign_ins=keep_sign_ins)
    if restored.damaged:
        raise typer.Exit(1)


@admin_app.command("import-stemtube")
def import_command(
    folder: Annotated[Path, typer.Argument(help="Where the old StemTube lies; it is only read.")],
    apply: Annotated[bool, typer.Option("--apply", help="Take it over; without, only tell what would be.")] = False,
    user: User = "",
    password: Password = "",
) -> None:
    """Takes over users and tracks of the forerunner of StemTube, with their stems and results.

    It talks to the services themselves: STEMTUBE_ADDRESS__AUTH and STEMTUBE_ADDRESS__DOWNLOAD, if not on this machine.
    """

    async def work() -> None:
        settings = load(SuiteSettings)
        name = user or settings.auth.admin_username
        known = password or _admin_password(settings, f"//{settings.address.auth}")
        old = OldInstallation(folder)
        async with ImportServices(settings.address, name, known) as services:
            with console.status("reading") as status:
                report = await import_stemtube(old, services, lambda doing: status.update(escape(doing)), apply=apply)
        show_report(report, console, apply=apply)

    _run(work())


@app.command("password")
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
    keep_tokens: Annotated[bool, typer.Option("--keep-tokens", help="Your API tokens go on.")] = False,
) -> None:
    """Changes your password and ends your other sessions and your API tokens."""

    async def work(api: Api) -> None:
        first = load(SuiteSettings).admin_password_file
        await api.change_password(new_password, end_tokens=not keep_tokens)
        console.print("The password is changed.")
        # What it was is of no more use to anybody.
        if not password and is_this_machine(url):
            first.unlink(missing_ok=True)

    _run(_signed_in(url, user, password, work, may_have_one_time_password=True))


@users_app.command("list")
def list_users(url: Url = DEFAULT_URL, user: User = "", password: Password = "") -> None:
    """All accounts."""

    async def work(api: Api) -> None:
        show_users(await all_users(api), console)

    _run(_signed_in(url, user, password, work))


@users_app.command("add")
def add_user_command(
    name: Name,
    email: Annotated[str, typer.Option(help="Can be left out.")] = "",
    admin: Annotated[bool, typer.Option("--admin", help="With an administrator's rights.")] = False,
    url: Url = DEFAULT_URL,
    user: User = "",
    password: Password = "",
) -> None:
    """Makes an account and prints its one-time password, which must be changed."""

    async def work(api: Api) -> None:
        console.print(await add_user(api, name, email, admin), markup=False, highlight=False)

    _run(_signed_in(url, user, password, work))


@users_app.command("reset-password")
def reset_password_command(name: Name, url: Url = DEFAULT_URL, user: User = "", password: Password = "") -> None:
    """Ends a user's sessions and API tokens and prints a one-time password."""

    async def work(api: Api) -> None:
        console.print(await reset_password(api, name), markup=False, highlight=False)

    _run(_signed_in(url, user, password, work))


@users_app.command("change")
def change_user_command(
    name: Name,
    email: Annotated[str | None, typer.Option(help="Empty to forget it.")] = None,
    admin: Annotated[bool | None, typer.Option("--admin/--no-admin", help="An administrator's rights.")] = None,
    disabled: Annotated[bool | None, typer.Option("--disable/--enable", help="Whether they can sign in.")] = None,
    url: Url = DEFAULT_URL,
    user: User = "",
    password: Password = "",
) -> None:
    """Changes an account. Who loses rights loses sessions and API tokens."""
    given = {"email": email, "admin": admin, "disabled": disabled}
    changes = {field: value for field, value in given.items() if value is not None}

    async def work(api: Api) -> None:
        await change_user(api, name, changes)

    _run(_signed_in(url, user, password, work))


@users_app.command("invite")
def invite_command(
    uses: Annotated[int, typer.Option(help="How many people can register with it.")] = 1,
    days: Annotated[int, typer.Option(help="How long it is good.")] = 7,
    url: Url = DEFAULT_URL,
    user: User = "",
    password: Password = "",
) -> None:
    """Prints an invitation's code, with which people register (STEMTUBE_AUTH__REGISTRATION=invitation)."""

    async def work(api: Api) -> None:
        body = {"uses": uses, "lifetime": f"{days * 86400}s"}
        console.print((await api.post("/api/v1/admin/invitations", body))["code"], markup=False, highlight=False)

    _run(_signed_in(url, user, password, work))


@admin_app.command("rotate-key")
def rotate_key_command(
    leaked: Annotated[bool, typer.Option("--leaked", help="Withdraw the older keys, and all access tokens.")] = False,
    url: Url = DEFAULT_URL,
    user: User = "",
    password: Password = "",
) -> None:
    """Makes a new key for access tokens; once every service knows it, it signs."""

    async def work(api: Api) -> None:
        await api.post("/api/v1/admin/signing-keys", {"withdrawOlder": leaked})

    _run(_signed_in(url, user, password, work))


@admin_app.command("make-certs")
def make_certs_command(
    out: Annotated[Path | None, typer.Option(help="DATA_DIR/certs unless given.")] = None,
    host: Annotated[
        list[str] | None, typer.Option(help="Name or address by which the services are reached; several times.")
    ] = None,
) -> None:
    """Makes a development authority and certificates for mutual TLS between the five processes."""
    folder = out or load(SuiteSettings).data_dir / "certs"
    try:
        made = make_certificates(folder, ("gateway", *SERVICES), host or ())
    except (OSError, ValueError) as error:
        _fail(str(error))
    for path in made:
        console.print(f"{path}", markup=False, highlight=False)
    console.print(f"Set STEMTUBE_NETWORK__TLS_DIR: each process its own, or {folder} for `stemtube up`.")


def _add_row(table: Table, part: str, choice: dict[str, Any], licence: str) -> None:
    usable = choice["availability"]
    name = choice["name"] + (" (auto)" if choice["default"] else "")
    table.add_row(part, name, "yes" if usable["available"] else "no", licence, usable["unavailableReason"])


async def _signed_in(
    url: str,
    user: str,
    password: str,
    work: Callable[[Api], Awaitable[T]],
    *,
    may_have_one_time_password: bool = False,
) -> T:
    """Does something with a client that is signed in."""
    settings = load(SuiteSettings)
    async with Api(url) as api:
        await api.sign_in(user or settings.auth.admin_username, password or _admin_password(settings, url))
        if api.must_change_password and not may_have_one_time_password:
            raise ApiError("this is a one-time password: choose your own with `stemtube password`")
        return await work(api)


def _admin_password(settings: SuiteSettings, url: str) -> str:
    if given := settings.admin_password.get_secret_value():
        return given
    if is_this_machine(url):
        try:
            return settings.admin_password_file.read_text().strip()
        except OSError:
            pass
    raise ApiError("who are you? Give --user and --password, or set STEMTUBE_USER and STEMTUBE_PASSWORD")


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


def _run(work: Coroutine[Any, Any, T], *, ends_with_signal: bool = False) -> T:
    """Runs a command to its end, which a signal may bring about: it is cancelled then and cleans up.

    Args:
        work: what to do.
        ends_with_signal: that is its regular end.

    Raises:
        SystemExit: with status 1 and one line if it fails; as shells expect it if it ends with a signal.
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
        _fail(str(error), *getattr(error, "__notes__", ()))


def _fail(*lines: str) -> NoReturn:
    for line in lines:
        errors.print(f"stemtube: {line}", style="red", highlight=False, markup=False, soft_wrap=True)
    sys.exit(1)


if __name__ == "__main__":
    app()
