"""Statements of the hot path, which the server parses and plans once per connection, asked through libpq with as little
in between as can be. A cursor takes longer to ask than most of them take to be answered.

All other statements go by Django's cursors and are planned anew, for the values that they come with: a list of the
largest amounts is read differently from one of all amounts.
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
def _with_numbers(statement: str) -> tuple[bytes, Sequence[PyFormat]]:
    """The statement with $1 for the first %s, and the forms in which the values may be sent."""
    query = PostgresQuery(Transformer())
    query.convert(statement, [None] * statement.count("%s"))
    return query.query, query._want_formats or []


class Statements:
    """Those of one connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self.server = connection, connection.pgconn
        context = connection.cursor(binary=True)  # for to read a time from text takes longer than all else in a row
        # All of one size, for a statement is prepared anew for each combination of sizes that its numbers have.
        context.adapters.register_dumper(int, Int8BinaryDumper)
        self.values = Transformer(context)
        self.names: dict[Any, bytes] = {}

    def rows(self, statement: str, values: Sequence[Any], begins: bool = False) -> list[tuple]:
        """All rows that it gives. Where it `begins` a transaction, both are sent at once: that saves a round trip.

        Raises psycopg's errors.
        """
        text, forms = _with_numbers(statement)
        sent = self.values.dump_sequence(values, forms)
        types, formats = self.values.types, self.values.formats
        name = self.names.get((statement, types)) or self._prepare(statement, text, types)
        asked = self._begin_with if begins else self._ask
        result = self.connection.wait(asked(name, sent, formats))
        if result.status not in SUCCESSES:
            raise error_from_result(result, encoding=self.connection.info.encoding)
        self.values.set_pgresult(result, format=Format.BINARY)
        return self.values.load_rows(0, result.ntuples, tuple)

    def _prepare(self, statement: str, text: bytes, types: Any) -> bytes:
        name = f"lokanetra_{len(self.names)}".encode()
        self.server.send_prepare(name, text, types)
        (result,) = self.connection.wait(execute(self.server))
        if result.status not in SUCCESSES:
            raise error_from_result(result, encoding=self.connection.info.encoding)
        self.names[statement, types] = name
        return name

    def _ask(self, name: bytes, sent: Any, formats: Any) -> Generator[Any, Any, Any]:
        self.server.send_query_prepared(name, sent, formats, Format.BINARY)
        return (yield from execute(self.server))[-1]

    def _begin_with(self, name: bytes, sent: Any, formats: Any) -> Generator[Any, Any, Any]:
        """Of BEGIN and the statement, the result of the one that failed, else that of the statement."""
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
