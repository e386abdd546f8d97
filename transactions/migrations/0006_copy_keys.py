"""The idempotency keys of the ledger become rows of the table of all keys. Payments go on meanwhile; what they bring
after this is copied with the next migration.

In batches, each committed, in the order of the ids: run again after a break, it goes on where it stopped.
"""

from django.db import migrations
from tqdm import tqdm

from lokanetra import online

BATCH = 100_000
COPY = """
    INSERT INTO wallet_key (user_id, key, request_hash, transaction_id)
    SELECT initiated_by_id, idempotency_key, request_hash, id FROM transactions_transaction
    WHERE id > %s AND id <= %s AND idempotency_key IS NOT NULL
"""


def copy(apps, schema_editor):
    end, start = newest(schema_editor), copied(schema_editor)
    with tqdm(total=max(end - start, 0), desc="keys", unit="transaction", disable=None) as bar:
        for first in range(start, end, BATCH):
            last = min(first + BATCH, end)
            schema_editor.execute(COPY, [first, last])
            bar.update(last - first)


def newest(schema_editor):
    """The newest id below which no row is still to come: whoever wrote one has let the table go."""
    with schema_editor.connection.cursor() as cursor:
        if online.is_postgresql(schema_editor):
            cursor.execute("BEGIN")
            cursor.execute("SET LOCAL lock_timeout = '5s'")
            cursor.execute("LOCK TABLE transactions_transaction IN SHARE MODE")
        cursor.execute("SELECT coalesce(max(id), 0) FROM transactions_transaction")
        (found,) = cursor.fetchone()
        if online.is_postgresql(schema_editor):
            cursor.execute("COMMIT")
        return found


def copied(schema_editor):
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(max(transaction_id), 0) FROM wallet_key")
        return cursor.fetchone()[0]


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("transactions", "0005_find_captures_and_reversals")]

    operations = [migrations.RunPython(copy, migrations.RunPython.noop, elidable=False)]
