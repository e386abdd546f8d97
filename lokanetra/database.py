"""What database errors mean: whether to try again, and whether the database is unavailable."""

from functools import cache
from typing import Any

from django.db import Error, InterfaceError, OperationalError, connection

# Deadlock, lock time-out, serialization failure: a retry may succeed.
CONFLICTS = ("40P01", "55P03", "40001")
# The session cannot write, or its prepared statement is gone or older than a migration: a new session may work.
READ_ONLY, STATEMENT_GONE, PLAN_STALE = "25006", "26000", "0A000"
# The server ends its sessions: it is shut down, has crashed, or is starting.
SERVER_ENDS = ("57P01", "57P02", "57P03")
# SQLite: another process is writing, or the file cannot be written. Everything else is a bug.
SQLITE_AWAY = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_READONLY", "SQLITE_IOERR", "SQLITE_FULL", "SQLITE_CANTOPEN")


@cache
def is_postgresql() -> bool:
    """Remembered, because the connection is found anew each time that it is asked."""
    return connection.vendor == "postgresql"


def sqlstate(fault: BaseException) -> str:
    """PostgreSQL's error code; empty where there is none."""
    return getattr(fault.__cause__, "sqlstate", None) or ""


def was_refused(fault: BaseException) -> bool:
    """Whether PostgreSQL answered with this error and goes on: what was not committed before is rolled back."""
    code = sqlstate(fault)
    return bool(code) and not code.startswith("08") and code not in SERVER_ENDS


def is_conflict(fault: BaseException) -> bool:
    """Whether two operations conflicted, so that this one may be repeated as a whole."""
    return sqlstate(fault) in CONFLICTS


def is_away(fault: BaseException) -> bool:
    """Whether the database cannot be reached, does not answer, is overloaded, or is read-only."""
    if not isinstance(fault, Error):
        return False
    name = getattr(fault.__cause__, "sqlite_errorname", None)
    if name is not None:
        return name.startswith(SQLITE_AWAY)
    return isinstance(fault, (OperationalError, InterfaceError)) or _is_session_fault(fault)


def renew_connection(fault: BaseException) -> bool:
    """Close the connection if it failed, rather than the statement. Returns whether it did: what changed nothing may
    then be tried once more.

    A connection that timed out, or could not be opened in time, does not count: the next would take as long.
    """
    if connection.in_atomic_block or not (_is_lost(fault) or _is_session_fault(fault)):
        return False
    connection.close()
    return True


def _is_lost(fault: BaseException) -> bool:
    """A connection that broke or was refused at once, also by a server that is ending its sessions."""
    cause: Any = fault.__cause__
    return hasattr(cause, "sqlstate") and not getattr(cause, "is_final", False) and not was_refused(fault)


def _is_session_fault(fault: BaseException) -> bool:
    code = sqlstate(fault)
    return code in (READ_ONLY, STATEMENT_GONE) or (code == PLAN_STALE and "cached plan" in str(fault))
