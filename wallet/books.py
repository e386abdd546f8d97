"""The SQL that writes wallets, ledger, keys and the events of payments. Only `ledger.py` uses it, and decides what is
written.

It is SQL because Django takes longer to build these statements than the database to execute them. Where the database
can, it is one statement: during every round trip others wait for the locks.
"""

from collections.abc import Sequence
from datetime import date, datetime, tzinfo
from decimal import Decimal
from functools import cache, lru_cache, partial
from typing import Any

from django.db import connection
from django.utils import timezone

from lokanetra import days
from lokanetra.database import is_postgresql
from lokanetra.prepared import Later, rows_of
from transactions.models import Transaction
from wallet.clock import clock
from wallet.models import Wallet
from wallet.money import from_paise, to_paise

MONEY = ("balance", "held", "out_day", "out_month", "in_month")
TYPES = {"id": "bigint", "day": "date", "count_day": "bigint", **dict.fromkeys(MONEY, "bigint")}
# All but the id and the time, which the database gives.
COLUMNS = [str(field.column) for field in Transaction._meta.concrete_fields if field.name not in ("id", "timestamp")]
KEY = "INSERT INTO wallet_key (user_id, key, request_hash, transaction_id)"
EVENT = "INSERT INTO transactions_outbox (type, timestamp, transaction_id)"


def write(row: Transaction, wallets: Sequence[Wallet], key: tuple[str, str] | None) -> None:
    """Write the balances and counts of the wallets, the row, which gets its id and its time, its event, and the
    idempotency key with the hash of its request. Where that is one statement, it is sent `Later`.

    Fails if the row's time is not on the day that the wallets count: see `TODAY`.
    """
    balances = [value for wallet in wallets for value in _values_of(wallet)]
    ends = _ends(wallets)
    today = _bounds(wallets[0].day, timezone.get_default_timezone())
    values = [*[_value_of(vars(row)[column]) for column in COLUMNS], *today, *ends]
    keys = [row.initiated_by_id, *key] if key else []
    if is_postgresql():
        statement = _one_statement(clock.sql, len(wallets), key is not None)
        Later(statement, [*balances, *values, *keys], partial(_finish, row))
        return
    rows_of(_wallets(len(wallets), "text"), balances)
    ((pk, moment),) = rows_of(_row(ON_SQLITE), [*values[:-4], _moment(timezone.now()), *ends])
    rows_of(f"{EVENT} VALUES ('transaction.created', %s, %s)", [moment, pk])
    if key:
        rows_of(f"{KEY} VALUES (%s, %s, %s, %s)", [*keys, pk])
    _finish(row, [(pk, _time_of(moment))])


def _finish(row: Transaction, written: list[tuple]) -> None:
    ((row.pk, row.timestamp),) = written
    row._state.adding = False


def release_expired_holds(wallet: Wallet) -> dict[int, Decimal]:
    """Close the wallet's expired holds. Returns the rest of each (rupees), by its id."""
    statement = """
        UPDATE wallet_hold SET status = 'EXPIRED', closed_at = expires_at
        WHERE payer_id = %s AND status = 'OPEN' AND expires_at <= {} RETURNING id, amount - captured
    """
    if is_postgresql():
        released = rows_of(statement.format(clock.sql), [wallet.pk])
    else:
        released = rows_of(statement.format("%s"), [wallet.pk, _moment(timezone.now())])
    return {pk: from_paise(left) for pk, left in released}


def next_time(wallets: Sequence[Wallet]) -> datetime:
    """The time that a row of these locked wallets has if it is written now."""
    if is_postgresql():
        return rows_of(f"SELECT {ON_POSTGRESQL.format(clock.sql)}", _ends(wallets))[0][0]
    return _time_of(rows_of(f"SELECT {ON_SQLITE}", [_moment(timezone.now()), *_ends(wallets)])[0][0])


def _ends(wallets: Sequence[Wallet]) -> list[int]:
    """For `LAST`."""
    first, last = wallets[0].pk, wallets[-1].pk
    return [first, first, last, last]


def _value_of(value: Any) -> Any:
    return to_paise(value) if isinstance(value, Decimal) else value


def _values_of(wallet: Wallet) -> list[Any]:
    return [wallet.pk, _date(wallet.day), wallet.count_day, *[to_paise(getattr(wallet, name)) for name in MONEY]]


@lru_cache(4)
def _date(day: date) -> Any:
    return connection.ops.adapt_datefield_value(day)


@lru_cache(4)
def _bounds(day: date, zone: tzinfo) -> list[Any]:
    """When the day begins and ends in `TIME_ZONE`, which is this one."""
    return [_moment(days.start_of(begun)) for begun in (day, days.next_day(day))]


def _moment(moment: datetime) -> Any:
    return connection.ops.adapt_datetimefield_value(moment)


def _time_of(moment: str) -> datetime:
    """The opposite, on SQLite."""
    return connection.ops.convert_datetimefield_value(moment, None, connection)  # type: ignore[attr-defined]


# --- The statements ----------------------------------------------------------------------------------

# A row's time is never before the last row of either wallet, even after a clock was set back. These rows are read only
# then: when the newest row of all is later than the clock.
NEWEST = "(SELECT timestamp FROM transactions_transaction ORDER BY timestamp DESC, id DESC LIMIT 1)"
LAST = 2 * [
    f"(SELECT timestamp FROM transactions_transaction WHERE {side} = %s ORDER BY id DESC LIMIT 1)"  # noqa: S608
    for side in ("sender_id", "receiver_id")
]
ON_POSTGRESQL = f"CASE WHEN {{0}} >= {NEWEST} THEN {{0}} ELSE GREATEST({{0}}, {', '.join(LAST)}) END"
ON_SQLITE = "MAX(%s, " + ", ".join(f"COALESCE({last}, '')" for last in LAST) + ")"
# NULL, which the ledger refuses, if the time is not on the day between two others: `faults.py` then repeats the whole.
# The subquery keeps the database from asking its clock twice.
TODAY = "(SELECT CASE WHEN time >= %s AND time < %s THEN time END FROM (SELECT {} AS time LIMIT 1) AS clock)"


@cache
def _one_statement(time: str, wallets: int, keyed: bool) -> str:
    row = _row(ON_POSTGRESQL.format(time))
    key = f", key AS ({KEY} SELECT %s, %s, %s, id FROM entry)" if keyed else ""  # noqa: S608
    event = f"{EVENT} SELECT 'transaction.created', timestamp, id FROM entry"  # noqa: S608
    parts = f"wallets AS ({_wallets(wallets, 'date')}), entry AS ({row}), event AS ({event}){key}"
    return f"WITH {parts} SELECT id, timestamp FROM entry"  # noqa: S608


@cache
def _wallets(count: int, date: str) -> str:
    """Columns of VALUES are named by position on both databases."""
    types = [date if kind == "date" else kind for kind in TYPES.values()]
    row = f"({', '.join(f'CAST(%s AS {kind})' for kind in types)})"
    columns = [f"{name} = new.column{place}" for place, name in enumerate(TYPES, 1) if name != "id"]
    return (
        f"UPDATE wallet_wallet SET {', '.join(columns)} FROM (VALUES {', '.join(count * [row])}) AS new "  # noqa: S608
        "WHERE wallet_wallet.id = new.column1"
    )


@cache
def _row(time: str) -> str:
    return (
        f"INSERT INTO transactions_transaction ({', '.join(COLUMNS)}, timestamp) "  # noqa: S608
        f"VALUES ({', '.join(['%s'] * len(COLUMNS))}, {TODAY.format(time)}) RETURNING id, timestamp"
    )
