"""All or nothing: an operation is one durable transaction; its failures are retried, or reported as what they are."""

import random
import time
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from django.db import Error, connection
from django.db.transaction import atomic

from lokanetra import database, metrics
from lokanetra.errors import ServerBusy
from wallet.clock import clock
from wallet.exceptions import OutcomeUnknown

# Two requests with one key that locked different wallets meet at this index; one of them is retried and finds the key.
KEY_CONSTRAINT = "wallet_key_pkey"
# A row of the ledger without a time, which it refuses: midnight passed, so the operation belongs to another day.
TIME = ("transactions_transaction", "timestamp")
MAX_ATTEMPTS = 3
REASONS = {"40P01": "deadlock", "55P03": "lock_timeout", "40001": "serialization"}
# Seconds: enough for the other operation to finish, random so that the two do not conflict again.
MAX_PAUSE = 0.05


Operation = TypeVar("Operation", bound=Callable[..., Any])


def all_or_nothing(operation: Operation) -> Operation:
    """Make the operation one durable transaction. It is repeated as a whole after a conflict with another one, and once
    when its connection failed before COMMIT was sent: until then nothing has moved.

    Raises ServerBusy when nothing was changed, OutcomeUnknown when the connection broke while committing.
    """

    @wraps(operation)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        attempt, renewed = 0, False
        while True:
            attempt += 1
            try:
                return _once(operation, *args, **kwargs)
            except Error as fault:
                if _is_conflict(fault) and attempt < MAX_ATTEMPTS:
                    if _is_on_another_day(fault):
                        clock.doubt()
                    metrics.count_retry(_reason(fault))
                    time.sleep(random.uniform(0, MAX_PAUSE * attempt))  # noqa: S311
                elif not renewed and database.renew_connection(fault):
                    metrics.count_retry("connection")
                    renewed = True
                elif database.is_away(fault) or _is_conflict(fault):
                    raise ServerBusy from fault
                else:
                    raise

    return wrapper  # type: ignore[return-value]


def _once(operation: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    committing = False
    try:
        with atomic(durable=True):
            result = operation(*args, **kwargs)
            committing = True
    except Error as fault:
        if committing and database.is_away(fault) and not database.was_refused(fault):
            raise OutcomeUnknown from fault
        raise
    return result


def _is_conflict(fault: Exception) -> bool:
    if database.is_conflict(fault):
        connection.errors_occurred = False  # the connection still works
        return True
    return KEY_CONSTRAINT in str(fault) or _is_on_another_day(fault)


def _is_on_another_day(fault: Exception) -> bool:
    details = getattr(fault.__cause__, "diag", None)
    return ".".join(TIME) in str(fault) if details is None else (details.table_name, details.column_name) == TIME


def _reason(fault: Exception) -> str:
    """The label of the conflict in the metrics."""
    if _is_on_another_day(fault):
        return "in_the_way"
    return REASONS.get(database.sqlstate(fault), "key")
