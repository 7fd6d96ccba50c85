"""Streams rows out of PostgreSQL by COPY BINARY, with as little work for each row as libpq allows."""

import select
from collections.abc import Generator

from psycopg import sql
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult

from persistence.copy_binary import HEADER, TRAILER
from persistence.database import SyncSession, translated


def copy_out(session: SyncSession, statement: sql.Composed) -> Generator[bytes, None, None]:
    """The rows that a COPY … TO STDOUT (FORMAT BINARY) gives. Whoever stops early closes the session too.

    psycopg's own iterator waits anew for every row; this one waits only when there is nothing to read.
    """
    with translated():
        connection = session.pgconn
        result = connection.exec_(statement.as_bytes(session))
        if result.status != ExecStatus.COPY_OUT:
            raise error_from_result(result)
        beginning = len(HEADER)  # to be cut off the first row
        while True:
            size, data = connection.get_copy_data(1)
            if size > 0:
                row = bytes(data[beginning:])
                beginning = 0
                if row != TRAILER:
                    yield row
            elif size == 0:
                _wait(connection)
            else:
                break
        while (ended := _next_result(connection)) is not None:
            if ended.status != ExecStatus.COMMAND_OK:
                raise error_from_result(ended)


def _next_result(connection: PGconn) -> PGresult | None:
    """`get_result` would wait inside libpq with the interpreter locked, and nothing else could run."""
    while connection.is_busy():
        _wait(connection)
    return connection.get_result()


def _wait(connection: PGconn) -> None:
    poller = select.poll()  # select() takes no file descriptor from 1024 on
    poller.register(connection.socket, select.POLLIN)
    poller.poll()
    connection.consume_input()
