"""What the faults of a database mean: who may try again, and who should be told that it is away."""

from typing import Any

from django.db import Error, InterfaceError, OperationalError, connection

# Deadlock, lock time-out, serialization failure: the database gave up on one of several, and may not the next time.
CONFLICTS = ("40P01", "55P03", "40001")
# The session cannot write, its prepared statement is gone or older than a migration: another session may do.
READ_ONLY, STATEMENT_GONE, PLAN_STALE = "25006", "26000", "0A000"
# The server ends its sessions: shut down by an administrator, after a crash, or while it starts.
SERVER_ENDS = ("57P01", "57P02", "57P03")
# SQLite: another one writes, or the file cannot be written. All else is a mistake of ours.
SQLITE_AWAY = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_READONLY", "SQLITE_IOERR", "SQLITE_FULL", "SQLITE_CANTOPEN")


def sqlstate(fault: BaseException) -> str:
    """PostgreSQL's code of the fault; empty where it gave none."""
    return getattr(fault.__cause__, "sqlstate", None) or ""


def is_conflict(fault: BaseException) -> bool:
    """Whether two operations were in each other's way, so that this one may be repeated as a whole."""
    return sqlstate(fault) in CONFLICTS


def is_away(fault: BaseException) -> bool:
    """Whether the database cannot be reached, does not answer, is overloaded, or only reads."""
    if not isinstance(fault, Error):
        return False
    name = getattr(fault.__cause__, "sqlite_errorname", None)
    if name is not None:
        return name.startswith(SQLITE_AWAY)
    return isinstance(fault, (OperationalError, InterfaceError)) or _is_of_session(fault)


def renew_connection(fault: BaseException) -> bool:
    """Give the connection up if it was at fault, and not what was asked of it. Whether it was: then what moved nothing
    is worth one more try.

    A connection that was not answered in time, or not made in time, is no such case: the next would take as long.
    """
    if connection.in_atomic_block or not (_is_lost(fault) or _is_of_session(fault)):
        return False
    connection.close()
    return True


def _is_lost(fault: BaseException) -> bool:
    """A connection that broke, or was refused at once: also by a server that ends its sessions while one begins."""
    cause: Any = fault.__cause__
    if not hasattr(cause, "sqlstate") or getattr(cause, "is_final", False):
        return False
    return cause.sqlstate is None or cause.sqlstate.startswith("08") or cause.sqlstate in SERVER_ENDS


def _is_of_session(fault: BaseException) -> bool:
    code = sqlstate(fault)
    return code in (READ_ONLY, STATEMENT_GONE) or (code == PLAN_STALE and "cached plan" in str(fault))
