"""Django's PostgreSQL for connections that live as long as their process and remember plans of statements.

A connection is asked whether it still lives only when it has rested: while one request follows the other, the question
would cost each of them a round trip. After an error it is given up, for a plan that a migration made stale would fail
again and again.
"""

import sys
from time import monotonic
from typing import Any

from django.db.backends.postgresql import base
from django.db.backends.utils import CursorWrapper
from psycopg import Cursor
from psycopg.pq import Format

# Seconds. A server that restarts within them breaks requests that are under way anyway.
REST = 1.0


class PreparedCursor(Cursor):
    """The server parses and plans each of its statements once per connection.

    All other statements it plans anew, for the values that they come with: a list of the largest amounts is read
    differently from one of all amounts.
    """

    def execute(self, query: Any, params: Any = None, **how: Any) -> Any:
        return super().execute(query, params, **how | {"prepare": True})


class DatabaseWrapper(base.DatabaseWrapper):
    used_at = float("-inf")
    kept: CursorWrapper

    def get_new_connection(self, conn_params: Any) -> Any:
        connection = super().get_new_connection(conn_params)
        connection.prepare_threshold = sys.maxsize  # never by itself; None would forbid it to those who ask for it too
        # Binary, for to read a time from text takes longer than all else in a row.
        prepared: Any = PreparedCursor(connection)
        prepared.format = Format.BINARY
        self.kept = self.make_cursor(prepared)
        return connection

    def kept_cursor(self) -> CursorWrapper:
        """The one cursor that is not closed, for queries that are read to their end before the next one begins. To make
        a cursor takes longer than to use it."""
        if self.queries_logged:
            return self.cursor()
        self.close_if_health_check_failed()
        self.ensure_connection()
        return self.kept

    def close_if_unusable_or_obsolete(self) -> None:
        if self.errors_occurred and not self.in_atomic_block:
            self.close()
        super().close_if_unusable_or_obsolete()

    def close_if_health_check_failed(self) -> None:
        now = monotonic()
        if now - self.used_at <= REST:
            self.health_check_done = True  # for this request; asked in its midst, it would open a transaction
        self.used_at = now
        super().close_if_health_check_failed()
