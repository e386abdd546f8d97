"""What must be true of the books, as queries that find violations. They only read.

A proof looks at a range of wallets, holds, transactions or requests, so that no query reads everything. The database
counts paise; results have rupees, as strings.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from django.db import connection

from lokanetra import days
from lokanetra.database import is_postgresql
from wallet.money import from_paise, show

Found = list[dict[str, Any]]

RANGE = "BETWEEN %(first)s AND %(last)s"


@dataclass(frozen=True)
class Proof:
    """A query, those of its columns that are money, and the format of a complaint."""

    query: str
    money: tuple[str, ...]
    complaint: str

    def find(self, values: dict[str, Any], **texts: str) -> Found:
        """The rows that disagree. The texts are put into the query as they are."""
        with connection.cursor() as cursor:
            cursor.execute(self.query.format(**texts), values)
            names = [column[0] for column in cursor.description or ()]
            return [self._format_money(dict(zip(names, row, strict=True))) for row in cursor.fetchall()]

    def _format_money(self, row: dict[str, Any]) -> dict[str, Any]:
        return row | {name: show(from_paise(row[name])) for name in self.money}

    def describe(self, row: dict[str, Any]) -> str:
        return self.complaint.format(**row)


# --- Wallets -----------------------------------------------------------------------------------------

# A wallet's rows in order, each with the balance after the row before it.
BOOKS = Proof(
    """
    WITH entry AS (
        SELECT sender_id AS wallet_id, id, timestamp, -amount AS change, sender_balance AS after
        FROM transactions_transaction WHERE sender_id BETWEEN %(first)s AND %(last)s {since}
        UNION ALL
        SELECT receiver_id, id, timestamp, amount, receiver_balance
        FROM transactions_transaction WHERE receiver_id BETWEEN %(first)s AND %(last)s {since}
    ), chain AS (
        SELECT wallet_id, change, after,
               lag(after) OVER (PARTITION BY wallet_id ORDER BY id) AS before,
               CASE WHEN timestamp < lag(timestamp) OVER (PARTITION BY wallet_id ORDER BY id) THEN 1 ELSE 0 END AS back,
               row_number() OVER (PARTITION BY wallet_id ORDER BY id DESC) AS from_end
        FROM entry
    ), book AS (
        SELECT wallet_id, sum(change) AS total,
               sum(CASE WHEN coalesce(before, {opening}) + change = after THEN 0 ELSE 1 END) AS gaps,
               sum(back) AS steps_back, max(CASE WHEN from_end = 1 THEN after END) AS latest
        FROM chain GROUP BY wallet_id
    )
    SELECT wallet.id AS wallet, account.username AS "user", wallet.balance, coalesce(book.total, 0) AS sum_of_rows,
           coalesce(book.latest, 0) AS after_last_row, coalesce(book.gaps, 0) AS breaks,
           coalesce(book.steps_back, 0) AS steps_back
    FROM wallet_wallet AS wallet
    JOIN users_userprofile AS account ON account.id = wallet.user_id
    LEFT JOIN book ON book.wallet_id = wallet.id
    WHERE wallet.id BETWEEN %(first)s AND %(last)s AND ({wrong} OR book.gaps > 0 OR book.steps_back > 0)
    ORDER BY wallet.id
    """,
    ("balance", "sum_of_rows", "after_last_row"),
    "wallet {wallet} of {user}: balance {balance}, sum of its rows {sum_of_rows}, after its last row "
    "{after_last_row}, breaks in its chain {breaks}, steps back in time {steps_back}",
)
WHOLE = {
    "since": "",
    "opening": "0",
    "wrong": "wallet.balance <> coalesce(book.total, 0) OR wallet.balance <> coalesce(book.latest, 0)",
}
# Earlier rows are not read, so the sum cannot be checked; the chain and its end can.
SINCE = {
    "since": "AND timestamp >= %(since)s",
    "opening": "after - change",
    "wrong": "wallet.balance <> coalesce(book.latest, wallet.balance)",
}

# Expired ones too: their money is set aside until they are closed.
HELD = Proof(
    """
    SELECT wallet.id AS wallet, account.username AS "user", wallet.held,
           coalesce(sum(hold.amount - hold.captured), 0) AS left_of_open_holds
    FROM wallet_wallet AS wallet
    JOIN users_userprofile AS account ON account.id = wallet.user_id
    LEFT JOIN wallet_hold AS hold ON hold.payer_id = wallet.id AND hold.status = 'OPEN'
    WHERE wallet.id BETWEEN %(first)s AND %(last)s
    GROUP BY wallet.id, account.username, wallet.held
    HAVING wallet.held <> coalesce(sum(hold.amount - hold.captured), 0)
    ORDER BY wallet.id
    """,
    ("held", "left_of_open_holds"),
    "wallet {wallet} of {user}: held {held}, left of its open holds {left_of_open_holds}",
)

# Only of wallets whose day is in this month: the next payment resets what others counted.
COUNTED = Proof(
    """
    WITH calendar AS (
        SELECT CAST(column1 AS {date}) AS day, CAST(column2 AS {time}) AS start FROM (VALUES {days}) AS given
    ), counting AS (
        SELECT wallet.id, calendar.start FROM wallet_wallet AS wallet JOIN calendar ON calendar.day = wallet.day
        WHERE wallet.id BETWEEN %(first)s AND %(last)s
    ), entry AS (
        SELECT sender_id AS wallet_id, timestamp, amount AS paid, 1 AS payment, 0 AS received
        FROM transactions_transaction
        WHERE sender_id BETWEEN %(first)s AND %(last)s AND timestamp >= %(month)s AND reverses_id IS NULL
        UNION ALL
        SELECT receiver_id, timestamp, 0, 0, amount
        FROM transactions_transaction
        WHERE receiver_id BETWEEN %(first)s AND %(last)s AND timestamp >= %(month)s AND reverses_id IS NULL
    ), moved AS (
        SELECT counting.id,
               coalesce(sum(CASE WHEN timestamp >= start THEN paid END), 0) AS out_day,
               coalesce(sum(CASE WHEN timestamp >= start THEN payment END), 0) AS count_day,
               coalesce(sum(paid), 0) AS out_month, coalesce(sum(received), 0) AS in_month
        FROM counting LEFT JOIN entry ON entry.wallet_id = counting.id GROUP BY counting.id
    )
    SELECT wallet.id AS wallet, account.username AS "user", CAST(wallet.day AS text) AS day,
           wallet.out_day, moved.out_day AS out_day_of_rows, wallet.count_day, moved.count_day AS count_day_of_rows,
           wallet.out_month, moved.out_month AS out_month_of_rows, wallet.in_month, moved.in_month AS in_month_of_rows
    FROM moved
    JOIN wallet_wallet AS wallet ON wallet.id = moved.id
    JOIN users_userprofile AS account ON account.id = wallet.user_id
    WHERE wallet.out_day <> moved.out_day OR wallet.count_day <> moved.count_day
        OR wallet.out_month <> moved.out_month OR wallet.in_month <> moved.in_month
    ORDER BY wallet.id
    """,
    tuple(f"{name}{of}" for name in ("out_day", "out_month", "in_month") for of in ("", "_of_rows")),
    "wallet {wallet} of {user} counts on {day}: out {out_day} (its rows say {out_day_of_rows}), payments {count_day} "
    "({count_day_of_rows}), out in the month {out_month} ({out_month_of_rows}), in {in_month} ({in_month_of_rows})",
)


def calendar(today: date) -> tuple[dict[str, Any], dict[str, str]]:
    """The values and texts for COUNTED: every day of this month, and when it began."""
    month = days.month_of(today)
    values: dict[str, Any] = {"month": moment(days.start_of(month))}
    for number, day in enumerate(_until(month, days.next_month(month))):
        values |= {f"day{number}": day.isoformat(), f"start{number}": moment(days.start_of(day))}
    given = ", ".join(f"(%(day{number})s, %(start{number})s)" for number in range(len(values) // 2))
    types = ("date", "timestamptz") if is_postgresql() else ("text", "text")
    return values, {"days": given, "date": types[0], "time": types[1]}


def moment(at: datetime) -> Any:
    """As the database compares it."""
    return connection.ops.adapt_datetimefield_value(at)


def _until(day: date, end: date) -> Iterator[date]:
    while day < end:
        yield day
        day = days.next_day(day)


# --- Holds, transactions, requests and keys ----------------------------------------------------------------------

CAPTURED = Proof(
    """
    WITH entry AS (
        SELECT id AS hold_id, captured, 0 AS moved, 0 AS astray FROM wallet_hold WHERE id {scope}
        UNION ALL
        SELECT capture.hold_id, 0, capture.amount,
               CASE WHEN hold.payer_id = capture.sender_id AND hold.payee_id = capture.receiver_id THEN 0 ELSE 1 END
        FROM transactions_transaction AS capture LEFT JOIN wallet_hold AS hold ON hold.id = capture.hold_id
        WHERE capture.hold_id {scope}
    )
    SELECT hold_id AS hold, sum(captured) AS captured, sum(moved) AS sum_of_rows, sum(astray) AS astray
    FROM entry GROUP BY hold_id HAVING sum(captured) <> sum(moved) OR sum(astray) > 0
    ORDER BY hold_id
    """,
    ("captured", "sum_of_rows"),
    "hold {hold}: captured {captured}, sum of its rows {sum_of_rows}, rows that are not from its payer to its payee "
    "{astray}",
)
HOLDS_OF_WALLETS = """
    IN (
        SELECT id FROM wallet_hold WHERE payer_id BETWEEN %(first)s AND %(last)s
        UNION ALL SELECT id FROM wallet_hold WHERE payee_id BETWEEN %(first)s AND %(last)s
        UNION ALL SELECT hold_id FROM transactions_transaction
            WHERE sender_id BETWEEN %(first)s AND %(last)s AND hold_id IS NOT NULL
        UNION ALL SELECT hold_id FROM transactions_transaction
            WHERE receiver_id BETWEEN %(first)s AND %(last)s AND hold_id IS NOT NULL
    )
"""
HOLDS_SINCE = "IN (SELECT hold_id FROM transactions_transaction WHERE timestamp >= %(since)s AND hold_id IS NOT NULL)"

GIVEN_BACK = Proof(
    """
    WITH entry AS (
        SELECT back.reverses_id, coalesce(original.amount, 0) AS moved, back.amount, original.reverses_id AS earlier,
               CASE WHEN coalesce(back.sender_id, 0) = coalesce(original.receiver_id, 0)
                     AND coalesce(back.receiver_id, 0) = coalesce(original.sender_id, 0) THEN 0 ELSE 1 END AS astray
        FROM transactions_transaction AS back
        LEFT JOIN transactions_transaction AS original ON original.id = back.reverses_id
        WHERE back.reverses_id {scope}
    )
    SELECT reverses_id AS "transaction", moved AS amount, sum(amount) AS given_back, sum(astray) AS astray,
           max(earlier) AS reverses
    FROM entry GROUP BY reverses_id, moved
    HAVING sum(amount) > moved OR sum(astray) > 0 OR max(earlier) IS NOT NULL
    ORDER BY reverses_id
    """,
    ("amount", "given_back"),
    "transaction {transaction}: amount {amount}, given back {given_back}, rows that do not swap its sides {astray}, "
    "itself gives back {reverses}",
)
ORIGINALS_OF_WALLETS = """
    IN (
        SELECT coalesce(reverses_id, id) FROM transactions_transaction WHERE sender_id BETWEEN %(first)s AND %(last)s
        UNION ALL
        SELECT coalesce(reverses_id, id) FROM transactions_transaction WHERE receiver_id BETWEEN %(first)s AND %(last)s
    )
"""
ORIGINALS_SINCE = """
    IN (SELECT reverses_id FROM transactions_transaction WHERE timestamp >= %(since)s AND reverses_id IS NOT NULL)
"""

# A request is paid by a transfer of its amount between its two wallets.
PAID = Proof(
    """
    SELECT asked.id AS request, asked.amount, asked.transaction_id AS "transaction", coalesce(paid.amount, 0) AS paid
    FROM wallet_paymentrequest AS asked LEFT JOIN transactions_transaction AS paid ON paid.id = asked.transaction_id
    WHERE asked.transaction_id IS NOT NULL AND asked.id {scope} AND (
        paid.id IS NULL OR paid.amount <> asked.amount OR paid.reverses_id IS NOT NULL OR paid.hold_id IS NOT NULL
        OR coalesce(paid.sender_id, 0) <> asked.payer_id OR coalesce(paid.receiver_id, 0) <> asked.requester_id
    )
    ORDER BY asked.id
    """,
    ("amount", "paid"),
    "request {request}: amount {amount}, paid {paid} by transaction {transaction}, which is no transfer of that from "
    "its payer to its requester",
)
REQUESTS_OF_WALLETS = """
    IN (
        SELECT id FROM wallet_paymentrequest WHERE payer_id BETWEEN %(first)s AND %(last)s
        UNION ALL SELECT id FROM wallet_paymentrequest WHERE requester_id BETWEEN %(first)s AND %(last)s
    )
"""
REQUESTS_SINCE = """
    IN (
        SELECT request.id FROM wallet_paymentrequest AS request
        JOIN transactions_transaction AS made ON made.id = request.transaction_id WHERE made.timestamp >= %(since)s
    )
"""

# The user of a key initiated its transaction, opened or voided its hold, or is a side of its request for money.
KEYS = Proof(
    """
    SELECT account.username AS "user", key.key, key.transaction_id AS "transaction", key.hold_id AS hold,
           key.request_id AS request
    FROM wallet_key AS key
    JOIN users_userprofile AS account ON account.id = key.user_id
    LEFT JOIN transactions_transaction AS made
        ON made.id = key.transaction_id AND made.initiated_by_id = key.user_id
    LEFT JOIN wallet_hold AS hold ON hold.id = key.hold_id
    LEFT JOIN wallet_wallet AS own ON own.user_id = key.user_id
    LEFT JOIN wallet_paymentrequest AS asked
        ON asked.id = key.request_id AND (asked.payer_id = own.id OR asked.requester_id = own.id)
    WHERE NOT (
        (made.id IS NOT NULL AND key.hold_id IS NULL AND key.request_id IS NULL)
        OR (hold.id IS NOT NULL AND key.transaction_id IS NULL AND key.request_id IS NULL)
        OR (asked.id IS NOT NULL AND key.transaction_id IS NULL AND key.hold_id IS NULL)
    ) {scope}
    ORDER BY key.user_id, key.key
    """,
    (),
    "key {key} of {user}: transaction {transaction}, hold {hold} and request {request} are not one operation of the "
    "user's",
)
KEYS_OF_WALLETS = "AND key.user_id IN (SELECT user_id FROM wallet_wallet WHERE id BETWEEN %(first)s AND %(last)s)"
