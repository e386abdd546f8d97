"""Statements of the hot path, which the server parses and plans once per connection, sent through libpq with minimal
overhead. A cursor takes longer to send most of them than the server takes to answer.

All other statements use Django's cursors and are planned each time, for their values: a list of the largest amounts
needs another plan than one of all amounts.
"""

import os
import socket
from collections.abc import Callable, Generator, Iterable, Sequence
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

    def run(
        self, statements: Iterable[tuple[str, Sequence[Any]]], *, begin: bool = False, commit: bool = False
    ) -> list[list[tuple]]:
        """All rows of each statement, sent in one round trip: with `begin` after BEGIN, with `commit` before COMMIT.
        After one that fails none is executed.

        Raises psycopg's errors.
        """
        bound = [self._bind(*statement) for statement in statements]
        if begin or commit or len(bound) > 1:
            results: list[Any] = self.connection.wait(self._in_pipeline(bound, begin, commit))
        else:
            results = [self._answered(partial(self.server.exec_prepared, *bound[0], Format.BINARY))]
        return [self._rows(result) for result in results]

    def commit(self) -> None:
        """Raises psycopg's errors."""
        self._answered(partial(self.server.exec_, b"COMMIT"))

    def close(self) -> None:
        self.socket.close()

    def _bind(self, statement: str, values: Sequence[Any]) -> tuple[bytes, Any, Any]:
        """The name, the values and their formats, as libpq takes them."""
        text, forms = _numbered(statement)
        sent: Any = self.values.dump_sequence(values, forms)
        types, formats = self.values.types, self.values.formats
        return self.names.get((statement, types)) or self._prepare(statement, text, types), sent, formats

    def _rows(self, result: Any) -> list[tuple]:
        self.values.set_pgresult(result, format=Format.BINARY)
        return self.values.load_rows(0, result.ntuples, tuple)

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

    def _in_pipeline(
        self, bound: Sequence[tuple[bytes, Any, Any]], begin: bool, commit: bool
    ) -> Generator[Any, Any, Any]:
        """The results of the statements. A generator for psycopg's `wait`."""
        self.server.enter_pipeline_mode()
        if begin:
            self.server.send_query_params(b"BEGIN", None)
        for statement in bound:
            self.server.send_query_prepared(*statement, Format.BINARY)
        if commit:
            self.server.send_query_params(b"COMMIT", None)
        self.server.pipeline_sync()
        results = yield from self._until_synced()
        self.server.exit_pipeline_mode()
        return [self._successful(result) for result in results][begin : begin + len(bound)]

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
