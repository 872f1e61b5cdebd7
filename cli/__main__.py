"""The `stemtube` command and its subcommands."""

import typer

from cli.commands.add import add_command
from cli.commands.admin import backup_command, cleanup_command, restore_command, rotate_key_command
from cli.commands.certs import make_certs_command
from cli.commands.demo import demo_command
from cli.commands.export import export_command
from cli.commands.import_stemtube import import_command
from cli.commands.models import list_models_command, pull_command
from cli.commands.password import password_command
from cli.commands.process import process_command
from cli.commands.status import status_command
from cli.commands.up import up_command
from cli.commands.users import (
    add_user_command,
    change_user_command,
    invite_command,
    list_users_command,
    reset_password_command,
)

app = typer.Typer(
    help="Stems, beats, tempo, key, chords, lyrics and structure of songs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
models_app = typer.Typer(help="Separation models and analysis backends.", no_args_is_help=True)
app.add_typer(models_app, name="models")
admin_app = typer.Typer(help="Commands for administrators.", no_args_is_help=True)
app.add_typer(admin_app, name="admin")
users_app = typer.Typer(help="Accounts.", no_args_is_help=True)
admin_app.add_typer(users_app, name="users")

# In the order in which the help shows them.
app.command("up")(up_command)
app.command("process")(process_command)
app.command("export")(export_command)
app.command("add")(add_command)
app.command("demo")(demo_command)
app.command("status")(status_command)
app.command("password")(password_command)

models_app.command("list")(list_models_command)
models_app.command("pull")(pull_command)

admin_app.command("cleanup")(cleanup_command)
admin_app.command("backup")(backup_command)
admin_app.command("restore")(restore_command)
admin_app.command("import-stemtube")(import_command)
admin_app.command("rotate-key")(rotate_key_command)
admin_app.command("make-certs")(make_certs_command)

users_app.command("list")(list_users_command)
users_app.command("add")(add_user_command)
users_app.command("reset-password")(reset_password_command)
users_app.command("change")(change_user_command)
users_app.command("invite")(invite_command)

if __name__ == "__main__":
    app()
