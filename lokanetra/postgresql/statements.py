"""Statements of the hot path, which the server parses and plans once per connection, sent through libpq with minimal
overhead. A cursor takes longer to send most of them than the server takes to answer.

All other statements use Django's cursors and are planned each time, for their values: a list of the largest amounts
needs another plan than one of all amounts.
"""

from collections.abc import Generator, Sequence
from functools import cache
from typing import Any

from psycopg import Connection
from psycopg._queries import PostgresQuery
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.generators import execute
from psycopg.pq import ExecStatus, Format
from psycopg.types.numeric import Int8BinaryDumper
from psycopg.waiting import Wait

SUCCESSES = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)


@cache
def _numbered(statement: str) -> tuple[bytes, Sequence[PyFormat]]:
    """The statement with $1 for the first %s, and the formats in which the values may be sent."""
    query = PostgresQuery(Transformer())
    query.convert(statement, [None] * statement.count("%s"))
    return query.query, query._want_formats or []


class Statements:
    """The prepared statements of one connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self.server = connection, connection.pgconn
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
        sent = self.values.dump_sequence(values, forms)
        types, formats = self.values.types, self.values.formats
        name = self.names.get((statement, types)) or self._prepare(statement, text, types)
        execution = self._begin_and_execute if begin else self._execute
        result = self._successful(execution(name, sent, formats))
        self.values.set_pgresult(result, format=Format.BINARY)
        return self.values.load_rows(0, result.ntuples, tuple)

    def commit(self) -> None:
        """Raises psycopg's errors."""
        self.server.send_query_params(b"COMMIT", None)
        self._successful(self._last_result())

    def _prepare(self, statement: str, text: bytes, types: Any) -> bytes:
        name = f"lokanetra_{len(self.names)}".encode()
        self.server.send_prepare(name, text, types)
        self._successful(self._last_result())
        self.names[statement, types] = name
        return name

    def _successful(self, execution: Generator[Any, Any, Any]) -> Any:
        result = self.connection.wait(execution)
        if result.status not in SUCCESSES:
            raise error_from_result(result, encoding=self.connection.info.encoding)
        return result

    def _execute(self, name: bytes, sent: Any, formats: Any) -> Generator[Any, Any, Any]:
        """A generator for psycopg's `wait`, as are the following."""
        self.server.send_query_prepared(name, sent, formats, Format.BINARY)
        return self._last_result()

    def _last_result(self) -> Generator[Any, Any, Any]:
        return (yield from execute(self.server))[-1]

    def _begin_and_execute(self, name: bytes, sent: Any, formats: Any) -> Generator[Any, Any, Any]:
        """The result of BEGIN or the statement, whichever failed, otherwise that of the statement."""
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
