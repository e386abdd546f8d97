"""Django's PostgreSQL backend for connections that live as long as their process and keep prepared statements.

Connections can break while idle. One that was idle for long is checked with a query; between requests in quick
succession that would cost a round trip each, so there only the socket is checked: has the server closed it?
"""

import os
import sys
from collections.abc import Callable, Sequence
from select import POLLIN, poll
from time import monotonic
from typing import Any

from django.db.backends.postgresql import base
from django.db.backends.utils import debug_transaction
from psycopg import Connection
from psycopg.errors import OperationalError
from psycopg.errors import _WaitTimeout as WaitTimeout

from lokanetra import postgresql
from lokanetra.env import DEFAULT_PORT
from lokanetra.postgresql.statements import AnswerTimeout, Statements

Then = Callable[[list[tuple]], None]

# Seconds of idleness after which a connection is checked with a query.
IDLE = 1.0
# The limits that the database enforces for requests, whose clients do not wait longer, ...
LIMITS = {"lock_timeout": "3s", "statement_timeout": "10s"}
# ... for work that nobody waits for, ...
PATIENT_LIMITS = LIMITS | {"statement_timeout": "0"}
# ... and for commands, which have no time-out even where the serving role has one.
COMMAND_LIMITS = {"statement_timeout": "0"}
# Seconds after which we give up a database that no longer answers: a statement, a health check, and patient work.
ANSWER_TIMEOUT, PROBE_TIMEOUT, PATIENT_TIMEOUT, NO_TIMEOUT = 15.0, 1.5, 900.0, float("inf")
# A connection that failed after more seconds than this is not tried again: the next would take as long.
SLOW = 1.0


class DatabaseWrapper(base.DatabaseWrapper):
    # When a connection of this process was last found broken: those last used before that are not trusted.
    broken_at = float("-inf")
    used_at = float("-inf")
    # Of several hosts, where this process last found the primary.
    last_primary: tuple[str, str] | None = None
    health_check_done: bool
    statements: Statements
    # Whether the next statement is the first of a transaction.
    must_begin = False
    # Statements that wait to be sent with the next one of the transaction or with COMMIT, and what their rows go to.
    waiting: list[tuple[str, Sequence[Any], Then]]
    closed_by_server: poll
    probe_timeout: float | None = None
    answer_timeout = ANSWER_TIMEOUT
    patient = False
    # A second connection, used instead of this one for reads that may be seconds old.
    replica: "DatabaseWrapper | None" = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.waiting = []

    def get_connection_params(self) -> dict[str, Any]:
        """With the limits of this kind of process; options set by the operator come later and win."""
        params = super().get_connection_params()
        if "," in str(params.get("host", "")):
            params |= self.last_primary_first(params["host"].split(","), str(params.get("port", "")).split(","))
        limits = COMMAND_LIMITS
        if postgresql.serving:
            limits = PATIENT_LIMITS if self.patient else LIMITS
        own = params.get("options") or os.environ.get("PGOPTIONS", "")
        options = " ".join(f"-c {name}={value}" for name, value in limits.items())
        params["options"] = f"{options} {own}".strip()
        return params

    def last_primary_first(self, hosts: list[str], ports: list[str]) -> dict[str, str]:
        """The hosts with the last known primary first: otherwise a host that hangs would cost each new connection its
        time-out."""
        all_ports = [port or DEFAULT_PORT for port in ports] * (len(hosts) // len(ports))
        pairs = sorted(zip(hosts, all_ports, strict=True), key=lambda pair: pair != self.last_primary)
        hosts, ports = map(list, zip(*pairs, strict=True))
        return {"host": ",".join(hosts), "port": ",".join(ports)}

    def get_new_connection(self, conn_params: Any) -> Any:
        started = monotonic()
        try:
            connection = super().get_new_connection(conn_params)
        except OperationalError as fault:
            fault.is_final = monotonic() - started > SLOW  # type: ignore[attr-defined]
            raise
        if "," in str(conn_params.get("host", "")):
            type(self).last_primary = (connection.info.host, str(connection.info.port))
        connection.prepare_threshold = sys.maxsize  # never automatically; None would also forbid it on request
        timeout = NO_TIMEOUT
        if postgresql.serving:
            timeout = PATIENT_TIMEOUT if self.patient else self.answer_timeout
            self.enforce_timeout(connection, timeout)
        connection.autocommit = True  # transactions are begun below
        self.statements, self.must_begin = Statements(connection, timeout), False
        self.closed_by_server = poll()
        self.closed_by_server.register(connection.fileno(), POLLIN)
        return connection

    def rows_of(self, statement: str, values: Sequence[Any]) -> list[tuple]:
        """All rows of a statement that is prepared once per connection."""
        if self.queries_logged or self.execute_wrappers:
            with self.cursor() as cursor:
                cursor.execute(statement, values)
                return cursor.fetchall()
        self.close_if_health_check_failed()
        self.ensure_connection()
        super().validate_no_broken_transaction()
        (rows,) = self._send((statement, values))
        return rows

    def send_later(self, statement: str, values: Sequence[Any], then: Then) -> None:
        """Inside a transaction: send the statement with the next one, or with COMMIT; `then` gets its rows. Where
        statements are logged, it is sent at once."""
        if self.queries_logged or self.execute_wrappers:
            then(self.rows_of(statement, values))
        else:
            super().validate_no_broken_transaction()
            self.waiting.append((statement, values, then))

    def send_waiting(self) -> None:
        """Send what waits now."""
        self._send()

    def _send(self, *statements: tuple[str, Sequence[Any]], commit: bool = False) -> list[list[tuple]]:
        """The rows of these statements. They are sent in one round trip after those that wait and after BEGIN, if the
        transaction has not begun yet."""
        waiting, self.waiting = self.waiting, []
        begin, self.must_begin = self.must_begin, False
        every = [*(each[:2] for each in waiting), *statements]
        with self.wrap_database_errors:
            found = self.statements.run(every, begin=begin, commit=commit)
        if commit:
            self.must_begin = not self.autocommit
        for (_, _, then), rows in zip(waiting, found, strict=False):
            then(rows)
        return found[len(waiting) :]

    # A transaction begins with its first statement, in the same round trip if that is prepared. psycopg itself stays in
    # autocommit mode throughout.

    def _set_autocommit(self, autocommit: bool) -> None:
        self.must_begin = not autocommit

    def validate_no_broken_transaction(self) -> None:
        """Called by cursors before each statement, also by cursors that are older than the transaction."""
        super().validate_no_broken_transaction()
        if self.waiting:
            self._send()
        elif self.must_begin:
            self.must_begin = False
            self.ensure_connection()
            with self.wrap_database_errors:
                self.connection.execute("BEGIN")

    def _commit(self) -> None:
        if self.waiting:
            self._send(commit=True)
        elif not self.must_begin and self.connection is not None:
            with debug_transaction(self, "COMMIT"), self.wrap_database_errors:
                self.statements.commit()
            self.must_begin = not self.autocommit

    def _rollback(self) -> None:
        self.waiting.clear()
        if not self.must_begin:
            super()._rollback()  # type: ignore[misc]
            self.must_begin = not self.autocommit

    def close_if_unusable_or_obsolete(self) -> None:
        """Closes the connection after an error: a plan that a migration made stale would fail again and again."""
        if self.errors_occurred and not self.in_atomic_block:
            self.close()
        super().close_if_unusable_or_obsolete()

    def close(self) -> None:
        """Notes if the connection was lost, and not only a statement refused: others may be lost too."""
        self.waiting.clear()
        if self.connection is not None:
            self.statements.close()
            if self.connection.broken:
                type(self).broken_at = monotonic()
        super().close()

    def ensure_connection(self) -> None:
        """Without looking for an event loop each time, which would find none."""
        if self.connection is None:
            super().ensure_connection()

    def set_autocommit(self, autocommit: bool, *args: Any, **kwargs: Any) -> None:
        """A transaction that lost its connection must not open a new one to end. Later ones start with autocommit."""
        if autocommit and self.connection is None:
            self.autocommit = True
        elif autocommit:
            super().set_autocommit(autocommit)
        else:  # nothing is sent yet
            self.validate_no_atomic_block()
            self.close_if_health_check_failed()
            self.ensure_connection()
            self.autocommit, self.must_begin = False, True

    def is_usable(self) -> bool:
        self.probe_timeout = PROBE_TIMEOUT
        try:
            return super().is_usable()
        finally:
            self.probe_timeout = None

    def enforce_timeout(self, connection: Connection, usual: float) -> None:
        """Close the connection when the server does not answer in time. Otherwise it would wait for hours where the
        server hangs, or its host disappears silently."""
        wait = connection.wait

        def wait_in_time(generator: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            try:
                return wait(generator, interval, timeout or self.probe_timeout or usual)
            except WaitTimeout:
                connection.pgconn.finish()
                raise AnswerTimeout from None

        connection.wait = wait_in_time  # type: ignore[method-assign, assignment]

    def close_if_health_check_failed(self) -> None:
        """Once for each request: in the middle of one, the check would open a transaction."""
        if self.connection is None or self.health_check_done:
            return
        now, used_at = monotonic(), self.used_at
        self.used_at = now
        if used_at < self.broken_at:
            self.close()
        elif now - used_at <= IDLE and not self.closed_by_server.poll(0):
            self.health_check_done = True
        super().close_if_health_check_failed()
