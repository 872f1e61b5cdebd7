"""`python -m services.auth`: users, passwords and tokens."""

from services.auth.app import open_auth
from services.auth.config import AuthSettings
from services.common.process import run
from services.common.rpc import server
from services.common.rpc.draining import Draining
from services.common.storage.sqlite_files import sqlite_file


async def serve(settings: AuthSettings) -> None:
    """Serves until SIGTERM or SIGINT."""
    async with open_auth(settings) as (service, verifier):
        await server.serve(
            service,
            listen=settings.auth.listen,
            health_listen=settings.auth.health_listen,
            verifier=verifier,
            draining=Draining(),
            network=settings.network,
            database=sqlite_file(settings.database_url),
        )


if __name__ == "__main__":
    run("services.auth", "Users, passwords and tokens of StemTube.", AuthSettings, {"serve": serve})
