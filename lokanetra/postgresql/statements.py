"""Statements of the hot path, which the server parses and plans once per connection, sent through libpq with minimal
overhead. A cursor takes longer to send most of them than the server takes to answer.

All other statements use Django's cursors and are planned each time, for their values: a list of the largest amounts
needs another plan than one of all amounts.
"""

import os
import socket
from collections.abc import Callable, Generator, Sequence
from functools import cache, partial
from typing import Any

from psycopg import Connection
from psycopg._queries import PostgresQuery
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import OperationalError, error_from_result
from psycopg.pq import ExecStatus, Format
from psycopg.types.numeric import Int8BinaryDumper
from psycopg.waiting import Wait

from lokanetra import deadlines

SUCCESSES = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)


@cache
def _numbered(statement: str) -> tuple[bytes, Sequence[PyFormat]]:
    """The statement with $1 for the first %s, and the formats in which the values may be sent."""
    query = PostgresQuery(Transformer())
    query.convert(statement, [None] * statement.count("%s"))
    return query.query, query._want_formats or []


class AnswerTimeout(OperationalError):
    """Raised when the server took too long to answer. The statement may have been executed."""

    is_final = True

    def __init__(self) -> None:
        super().__init__("the database did not answer in time")


class Statements:
    """The prepared statements of one connection, each of which the server has to answer within some seconds."""

    def __init__(self, connection: Connection, seconds: float) -> None:
        self.connection, self.server, self.seconds = connection, connection.pgconn, seconds
        self.socket = socket.socket(fileno=os.dup(connection.fileno()))
        context = connection.cursor(binary=True)  # parsing a time from text takes longer than the rest of a row
        # All of one size: a statement is prepared separately for each combination of the sizes of its numbers.
        context.adapters.register_dumper(int, Int8BinaryDumper)
        self.values = Transformer(context)
        self.names: dict[Any, bytes] = {}

    def rows(self, statement: str, values: Sequence[Any], begin: bool = False) -> list[tuple]:
        """All rows of a statement. With `begin`, BEGIN is sent in the same round trip.

        Raises psycopg's errors.
        """
        text, forms = _numbered(statement)
        sent: Any = self.values.dump_sequence(values, forms)
        types, formats = self.values.types, self.values.formats
        name = self.names.get((statement, types)) or self._prepare(statement, text, types)
        if begin:
            result = self._successful(self.connection.wait(self._begin_and_execute(name, sent, formats)))
        else:
            result = self._answered(partial(self.server.exec_prepared, name, sent, formats, Format.BINARY))
        self.values.set_pgresult(result, format=Format.BINARY)
        return self.values.load_rows(0, result.ntuples, tuple)

    def commit(self) -> None:
        """Raises psycopg's errors."""
        self._answered(partial(self.server.exec_, b"COMMIT"))

    def close(self) -> None:
        self.socket.close()

    def _prepare(self, statement: str, text: bytes, types: Any) -> bytes:
        name = f"lokanetra_{len(self.names)}".encode()
        self._answered(partial(self.server.prepare, name, text, types))
        self.names[statement, types] = name
        return name

    def _answered(self, call: Callable[[], Any]) -> Any:
        """The result of a call that blocks in libpq; Ctrl-C waits for it too. Waiting as psycopg does would let go of
        the interpreter, and wait to get it back, five times instead of once."""
        deadlines.begin(self.socket, self.seconds)
        try:
            result = call()
        finally:
            in_time = deadlines.end(self.socket)
        if not in_time:
            self.server.finish()
            raise AnswerTimeout
        return self._successful(result)

    def _successful(self, result: Any) -> Any:
        if result.status not in SUCCESSES:
            raise error_from_result(result, encoding=self.connection.info.encoding)
        return result

    def _begin_and_execute(self, name: bytes, sent: Any, formats: Any) -> Generator[Any, Any, Any]:
        """The result of BEGIN or the statement, whichever failed, otherwise that of the statement. A generator for
        psycopg's `wait`."""
        self.server.enter_pipeline_mode()
        self.server.send_query_params(b"BEGIN", None)
        self.server.send_query_prepared(name, sent, formats, Format.BINARY)
        self.server.pipeline_sync()
        results = [
            result for result in (yield from self._until_synced()) if result.status != ExecStatus.PIPELINE_ABORTED
        ]
        self.server.exit_pipeline_mode()
        return results[-1]

    def _until_synced(self) -> Generator[Any, Any, list[Any]]:
        results: list[Any] = []
        while self.server.flush():
            yield Wait.RW
            self.server.consume_input()
        while True:
            if self.server.is_busy():
                yield Wait.R
                self.server.consume_input()
            elif result := self.server.get_result():
                if result.status == ExecStatus.PIPELINE_SYNC:
                    return results
                results.append(result)
                self.server.get_result()  # None ends those of one statement, and is there already
