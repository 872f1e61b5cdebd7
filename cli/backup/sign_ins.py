"""Removes sign-ins from a restored database of auth, because those in the backup must not become valid again.

A session, token, invitation or key that was ended after the backup is still valid in it. So none of them is restored:
these tables become empty, and auth makes a new signing key when it starts, so earlier access tokens are not valid.
One-time passwords are set to expired; admins keep theirs only if no admin has another password.
"""

import sqlite3

EMPTIED = ("refresh_tokens", "sessions", "api_tokens", "invitations", "signing_keys")
EXPIRE_ONE_TIME_PASSWORDS = """
    UPDATE users SET password_expire_time = '2000-01-01 00:00:00.000000'
    WHERE must_change_password AND NOT (
        admin AND NOT EXISTS (
            SELECT 1 FROM users AS others
            WHERE others.admin AND NOT others.disabled AND NOT others.must_change_password
        )
    )
"""
HAS_ONE_TIME_PASSWORDS = """
    SELECT count(*) FROM information_schema.columns
    WHERE table_name = 'users' AND column_name = 'must_change_password'
"""
"""For PostgreSQL; the first version of the tables had no one-time passwords."""


def end_in_sqlite(connection: sqlite3.Connection) -> None:
    """Removes sign-ins in a copy of auth's database, of any version."""
    connection.execute("PRAGMA secure_delete = ON")  # otherwise keys would stay in free pages of the file
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    with connection:
        for table in EMPTIED:
            if table in tables:
                connection.execute(f"DELETE FROM {table}")
        columns = {row[1] for row in connection.execute("PRAGMA table_info(users)")}
        if "must_change_password" in columns:
            connection.execute(EXPIRE_ONE_TIME_PASSWORDS)


def without_emptied(contents: str) -> str:
    """Removes the rows of these tables from a list of contents, the output of `pg_restore --list`."""
    return "".join(line for line in contents.splitlines(keepends=True) if not _are_rows_of_emptied(line))


def _are_rows_of_emptied(line: str) -> bool:
    # 3456; 0 16400 TABLE DATA public sessions owner
    words = line.partition(";")[2].split()
    return words[2:4] == ["TABLE", "DATA"] and len(words) > 5 and words[5] in EMPTIED
