"""Ends transactions of processes that are frozen, or on a machine that is cut off.

Their connections stay open, so PostgreSQL would keep their locks, and other processes would wait for as long. SQLite
has no such limit: a stopped process keeps its lock on the file until it continues or ends.
"""

from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import OperationalError

ENDED = "25P03"
"""The SQLSTATE idle_in_transaction_session_timeout, which psycopg takes for an internal error."""


def limit_idle_transactions(engine: Engine, seconds: float) -> None:
    """Has PostgreSQL close connections that do nothing within a transaction for some time.

    The process gets an `OperationalError` when it continues, as after a restart of the database.

    Args:
        engine: of a PostgreSQL database; connections that it opens from now on are limited.
        seconds: longest time between two statements of a transaction.
    """

    @event.listens_for(engine, "connect")
    def limit(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(f"SET idle_in_transaction_session_timeout = {round(seconds * 1000)}")
        cursor.close()
        connection.commit()

    @event.listens_for(engine, "handle_error")
    def disconnect(context: ExceptionContext) -> None:
        error = context.original_exception
        if getattr(error, "sqlstate", None) == ENDED:
            context.is_disconnect = True
            raise OperationalError(context.statement, None, error) from error
