"""Writes a ledger of any size by SQL in minutes, with the balances that the product would have written.

Each wallet opens with a credit. A tenth of the ledger belongs to the first wallet, which sends money to a tenth of the
others in turn and gets it back; the other wallets do the same in pairs. So the balance after a row is known without
reading the previous one.
"""

import os
from importlib import import_module
from typing import LiteralString

import psycopg
from tqdm import tqdm

from lokanetra import days
from scripts.bench import PHONES

# For the day, in the time zone of the products that are measured.
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lokanetra.tests.settings")

OPENING = 10_000_000  # paise
COUNTING = import_module("wallet.migrations.0005_count_this_month")
BATCH = 250_000

USERS = """
    INSERT INTO users_userprofile
        (id, username, phone_number, password, first_name, last_name, email, is_superuser, is_staff, is_active,
         date_joined, token_version)
    SELECT n, 'user_' || %(phones)s + n, '+91' || %(phones)s + n, '!', '', '', '', false, false, true, now(), 0
    FROM generate_series(%(first)s::bigint, %(last)s) AS n
"""
OPENINGS = """
    INSERT INTO transactions_transaction
        (id, transaction_type, receiver_id, amount, receiver_balance, remarks, timestamp, initiated_by_id)
    SELECT n, 'CREDIT', n, %(opening)s, %(opening)s, 'Opening', now() - (%(rows)s - n) * interval '3 seconds', n
    FROM generate_series(%(first)s::bigint, %(last)s) AS n
"""
# Every ninth transfer is between the first wallet and its friends, wallets 2 to `friends` + 1; others are in pairs.
TRANSFERS = """
    WITH numbered AS (
        SELECT n, n - %(wallets)s - 1 AS m FROM generate_series(%(first)s::bigint, %(last)s) AS n
    ), turns AS (
        SELECT n, 1 AS one, 2 + m / 9 / 2 %% %(friends)s AS other, m / 9 AS turn FROM numbered WHERE m %% 9 = 0
        UNION ALL
        SELECT n, one, one + 1, turn FROM numbered,
            LATERAL (SELECT m - m / 9 - 1 AS k) AS counted,
            LATERAL (SELECT 2 + %(friends)s + k %% %(pairs)s * 2 AS one, k / %(pairs)s AS turn) AS placed
        WHERE m %% 9 > 0
    ), payments AS (
        SELECT n, turn %% 2 = 0 AS forth, one, other, 1 + (one + turn / 2) * 7919 %% 100000 AS amount FROM turns
    )
    INSERT INTO transactions_transaction
        (id, transaction_type, sender_id, receiver_id, amount, sender_balance, receiver_balance, remarks, timestamp,
         initiated_by_id)
    SELECT n, 'TRANSFER',
           CASE WHEN forth THEN one ELSE other END, CASE WHEN forth THEN other ELSE one END, amount,
           %(opening)s - CASE WHEN forth THEN amount ELSE 0 END, %(opening)s + CASE WHEN forth THEN amount ELSE 0 END,
           'Rent', now() - (%(rows)s - n) * interval '3 seconds', CASE WHEN forth THEN one ELSE other END
    FROM payments ORDER BY n
"""
# Balances are those of the newest rows.
WALLETS = """
    INSERT INTO wallet_wallet (id, user_id, balance, status, created_at)
    SELECT n, n, newest.balance, 'ACTIVE', now()
    FROM generate_series(%(first)s::bigint, %(last)s) AS n, LATERAL (
        (SELECT id, sender_balance AS balance FROM transactions_transaction
         WHERE sender_id = n ORDER BY id DESC LIMIT 1)
        UNION ALL
        (SELECT id, receiver_balance FROM transactions_transaction WHERE receiver_id = n ORDER BY id DESC LIMIT 1)
        ORDER BY id DESC LIMIT 1
    ) AS newest
"""
# Except those of constraints.
INDEXES = """
    SELECT indexname, indexdef FROM pg_indexes
    WHERE tablename = 'transactions_transaction' AND indexname NOT IN (SELECT conname FROM pg_constraint)
"""
TABLES: tuple[LiteralString, ...] = ("users_userprofile", "wallet_wallet", "transactions_transaction")


def load(url: str, wallets: int, rows: int) -> None:
    """Fill an empty database, as a superuser: foreign keys are valid by construction and not checked."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        friends = wallets // 10
        sizes = {"wallets": wallets, "rows": rows, "friends": friends, "pairs": (wallets - 1 - friends) // 2}
        sizes |= {"opening": OPENING, "phones": PHONES}
        indexes = connection.execute(INDEXES).fetchall()
        for name, _ in indexes:
            connection.execute(f'DROP INDEX "{name}"')
        with tqdm(total=2 * wallets + rows, unit="row", desc=f"{wallets:,} wallets, {rows:,} rows") as bar:
            _insert(connection, bar, USERS, 1, wallets, sizes)
            _insert(connection, bar, OPENINGS, 1, wallets, sizes)
            _insert(connection, bar, TRANSFERS, wallets + 1, rows, sizes)
            for _, definition in indexes:
                connection.execute(definition)
            _insert(connection, bar, WALLETS, 1, wallets, sizes)
        _count_totals(connection)
        _finish(connection)


def _insert(connection: psycopg.Connection, bar: tqdm, query: LiteralString, first: int, end: int, sizes: dict) -> None:
    for start in range(first, end + 1, BATCH):
        last = min(start + BATCH - 1, end)
        connection.execute(query, sizes | {"first": start, "last": last})
        bar.update(last - start + 1)


def _count_totals(connection: psycopg.Connection) -> None:
    """Set the totals of today and this month, with the SQL of the migration that introduced them."""
    today = days.today()
    start, month = days.start_of(today), days.start_of(days.month_of(today))
    connection.execute(COUNTING.COUNT, [start, start, month, month, today])


def _finish(connection: psycopg.Connection) -> None:
    """Bring the database into its usual state: sequences set, vacuumed, analyzed, checkpointed."""
    for table in TABLES:
        connection.execute(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}")
    connection.execute("VACUUM (ANALYZE)")
    connection.execute("CHECKPOINT")
