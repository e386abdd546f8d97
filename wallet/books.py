"""The SQL that writes wallets, ledger, keys and the events of payments. Only `ledger.py` uses it, and decides what is
written.

It is SQL because Django takes longer to build these statements than the database to execute them. Where the database
can, it is one statement: during every round trip others wait for the locks.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any

from django.db import connection
from django.utils import timezone

from lokanetra.prepared import rows_of
from transactions.models import Transaction
from wallet.models import Wallet
from wallet.money import from_paise, to_paise

# The time of the database, because the clocks of servers differ. SQLite uses the server's.
CLOCK = "clock_timestamp()"

MONEY = ("balance", "held", "out_day", "out_month", "in_month")
TYPES = {"id": "bigint", "day": "date", "count_day": "bigint", **dict.fromkeys(MONEY, "bigint")}
COLUMNS = [str(field.column) for field in Transaction._meta.concrete_fields if not field.primary_key]
TIME_AT = COLUMNS.index("timestamp")
KEY = "INSERT INTO wallet_key (user_id, key, request_hash, transaction_id)"
EVENT = "INSERT INTO transactions_outbox (type, timestamp, transaction_id)"


def write(row: Transaction, wallets: Sequence[Wallet], key: tuple[str, str] | None) -> None:
    """Write the balances and counts of the wallets, the row, which gets its id and its time, its event, and the
    idempotency key with the hash of its request."""
    balances = [value for wallet in wallets for value in _values_of(wallet)]
    fields = [getattr(row, column) for column in COLUMNS]
    values: list[Any] = [to_paise(value) if isinstance(value, Decimal) else value for value in fields]
    ends = [wallets[0].pk, wallets[0].pk, wallets[-1].pk, wallets[-1].pk]
    keys = [row.initiated_by_id, *key] if key else []
    if connection.vendor == "postgresql":
        values[TIME_AT : TIME_AT + 1] = ends
        statement = _one_statement(CLOCK, len(wallets), key is not None)
        ((row.pk, row.timestamp),) = rows_of(statement, balances + values + keys)
    else:
        values[TIME_AT : TIME_AT + 1] = [_moment(timezone.now()), *ends]
        rows_of(_wallets(len(wallets), "text"), balances)
        ((row.pk, moment),) = rows_of(_row(ON_SQLITE), values)
        row.timestamp = connection.ops.convert_datetimefield_value(moment, None, connection)  # type: ignore[attr-defined]
        rows_of(f"{EVENT} VALUES ('transaction.created', %s, %s)", [moment, row.pk])
        if key:
            rows_of(f"{KEY} VALUES (%s, %s, %s, %s)", [*keys, row.pk])
    row._state.adding = False


def release_expired_holds(wallet: Wallet) -> dict[int, Decimal]:
    """Close the wallet's expired holds. Returns the rest of each (rupees), by its id."""
    statement = """
        UPDATE wallet_hold SET status = 'EXPIRED', closed_at = expires_at
        WHERE payer_id = %s AND status = 'OPEN' AND expires_at <= {} RETURNING id, amount - captured
    """
    if connection.vendor == "postgresql":
        released = rows_of(statement.format(CLOCK), [wallet.pk])
    else:
        released = rows_of(statement.format("%s"), [wallet.pk, _moment(timezone.now())])
    return {pk: from_paise(left) for pk, left in released}


def now() -> datetime:
    return rows_of(f"SELECT {CLOCK}", [])[0][0] if connection.vendor == "postgresql" else timezone.now()


def _values_of(wallet: Wallet) -> list[Any]:
    day = connection.ops.adapt_datefield_value(wallet.day)
    return [wallet.pk, day, wallet.count_day, *(to_paise(getattr(wallet, name)) for name in MONEY)]


def _moment(moment: datetime) -> Any:
    return connection.ops.adapt_datetimefield_value(moment)


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


@cache
def _one_statement(clock: str, wallets: int, keyed: bool) -> str:
    row = _row(ON_POSTGRESQL.format(clock))
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
    places = [time if column == "timestamp" else "%s" for column in COLUMNS]
    return (
        f"INSERT INTO transactions_transaction ({', '.join(COLUMNS)}) VALUES ({', '.join(places)}) "  # noqa: S608
        "RETURNING id, timestamp"
    )
