"""Django's PostgreSQL for connections that live as long as their process and remember plans of statements.

Connections die while nobody uses them. One that has rested is asked whether it lives; between requests that follow each
other the question would cost each of them a round trip, so there it is only looked whether the server has closed it.
"""

import os
import sys
from collections.abc import Sequence
from select import POLLIN, poll
from time import monotonic
from typing import Any

from django.db.backends.postgresql import base
from psycopg import Connection
from psycopg.errors import OperationalError
from psycopg.errors import _WaitTimeout as WaitTimeout

from lokanetra import postgresql
from lokanetra.env import DEFAULT_PORT
from lokanetra.postgresql.statements import Statements

# Seconds.
REST = 1.0
# A request that waits longer for the database has lost its client. These are the limits that the database keeps, ...
LIMITS = {"lock_timeout": "3s", "statement_timeout": "10s"}
# ... those of work that nobody waits for, ...
PATIENT_LIMITS = LIMITS | {"statement_timeout": "0"}
# ... those of commands, which take their time whatever the role that serves is limited to, ...
LIMITS_OF_COMMANDS = {"statement_timeout": "0"}
# ... and these seconds are ours, where it does not answer any more: to a statement, and whether it is there at all.
ANSWER_TIMEOUT, PROBE_TIMEOUT, PATIENT_TIMEOUT = 15.0, 1.5, 900.0
# A connection that was refused after so many seconds is not tried again: the next would take as long.
SLOW = 1.0


class DatabaseWrapper(base.DatabaseWrapper):
    # When a connection of this process was last found broken: those that rest since before that are not trusted.
    broken_at = float("-inf")
    used_at = float("-inf")
    # Of several hosts, where this process last found the primary.
    found_at: tuple[str, str] | None = None
    health_check_done: bool
    statements: Statements
    # Whether the next statement is the first one of a transaction.
    begins = False
    closed_by_server: poll
    probe_timeout: float | None = None
    answer_timeout = ANSWER_TIMEOUT
    patient = False
    # For reads that may be seconds old: beside the connection to the primary, and used in its place.
    replica: "DatabaseWrapper | None" = None

    def get_connection_params(self) -> dict[str, Any]:
        """With the limits of a process that answers requests; what the operator sets comes after them, and wins."""
        params = super().get_connection_params()
        if "," in str(params.get("host", "")):
            params |= self.last_primary_first(params["host"].split(","), str(params.get("port", "")).split(","))
        limits = LIMITS_OF_COMMANDS
        if postgresql.serving:
            limits = PATIENT_LIMITS if self.patient else LIMITS
        own = params.get("options") or os.environ.get("PGOPTIONS", "")
        asked = " ".join(f"-c {name}={value}" for name, value in limits.items())
        params["options"] = f"{asked} {own}".strip()
        return params

    def last_primary_first(self, hosts: list[str], ports: list[str]) -> dict[str, str]:
        """The hosts in the order in which to ask them: one that hangs costs each new connection its time-out, until
        another one was found to be the primary."""
        every_port = [port or DEFAULT_PORT for port in ports] * (len(hosts) // len(ports))
        places = sorted(zip(hosts, every_port, strict=True), key=lambda place: place != self.found_at)
        hosts, ports = map(list, zip(*places, strict=True))
        return {"host": ",".join(hosts), "port": ",".join(ports)}

    def get_new_connection(self, conn_params: Any) -> Any:
        began = monotonic()
        try:
            connection = super().get_new_connection(conn_params)
        except OperationalError as fault:
            fault.is_final = monotonic() - began > SLOW  # type: ignore[attr-defined]
            raise
        if "," in str(conn_params.get("host", "")):
            type(self).found_at = (connection.info.host, str(connection.info.port))
        connection.prepare_threshold = sys.maxsize  # never by itself; None would forbid it to those who ask for it too
        if postgresql.serving:
            self.enforce_timeout(connection)
        connection.autocommit = True  # what begins a transaction stands below
        self.statements, self.begins = Statements(connection), False
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
        begins, self.begins = self.begins, False
        with self.wrap_database_errors:
            return self.statements.rows(statement, values, begins)

    # A transaction begins with its first statement, and in the same round trip where that is prepared. psycopg stays in
    # autocommit all the while.

    def _set_autocommit(self, autocommit: bool) -> None:
        self.begins = not autocommit

    def validate_no_broken_transaction(self) -> None:
        """Cursors ask before each statement, those too that are older than the transaction."""
        super().validate_no_broken_transaction()
        if self.begins:
            self.begins = False
            self.ensure_connection()
            with self.wrap_database_errors:
                self.connection.execute("BEGIN")

    def _commit(self) -> None:
        if not self.begins:
            super()._commit()  # type: ignore[misc]
            self.begins = not self.autocommit

    def _rollback(self) -> None:
        if not self.begins:
            super()._rollback()  # type: ignore[misc]
            self.begins = not self.autocommit

    def close_if_unusable_or_obsolete(self) -> None:
        """After an error the connection is given up: a plan that a migration made stale would fail again and again."""
        if self.errors_occurred and not self.in_atomic_block:
            self.close()
        super().close_if_unusable_or_obsolete()

    def close(self) -> None:
        """Where the connection was lost, and not only a statement refused, others may be lost too."""
        if self.connection is not None and self.connection.broken:
            type(self).broken_at = monotonic()
        super().close()

    def set_autocommit(self, autocommit: bool, *args: Any, **kwargs: Any) -> None:
        """A transaction that lost its connection needs no new one to end. One that begins later has autocommit on."""
        if autocommit and self.connection is None:
            self.autocommit = True
        else:
            super().set_autocommit(autocommit, *args, **kwargs)

    def is_usable(self) -> bool:
        self.probe_timeout = PROBE_TIMEOUT
        try:
            return super().is_usable()
        finally:
            self.probe_timeout = None

    def enforce_timeout(self, connection: Connection) -> None:
        """Give the connection up when it is not answered in time: nothing else would, for hours, where the server
        hangs instead of dying, or its host is gone without a word."""
        wait = connection.wait
        usual = PATIENT_TIMEOUT if self.patient else self.answer_timeout

        def wait_in_time(generator: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            try:
                return wait(generator, interval, timeout or self.probe_timeout or usual)
            except WaitTimeout:
                connection.pgconn.finish()
                raise AnswerTimeout("the database did not answer in time") from None

        connection.wait = wait_in_time  # type: ignore[method-assign, assignment]

    def close_if_health_check_failed(self) -> None:
        """Once for each request: asked in its midst, it would open a transaction."""
        if self.connection is None or self.health_check_done:
            return
        now, used_at = monotonic(), self.used_at
        self.used_at = now
        if used_at < self.broken_at:
            self.close()
        elif now - used_at <= REST and not self.closed_by_server.poll(0):
            self.health_check_done = True
        super().close_if_health_check_failed()


class AnswerTimeout(OperationalError):
    """Raised when the server took too long to answer, whatever became of the statement."""

    is_final = True
