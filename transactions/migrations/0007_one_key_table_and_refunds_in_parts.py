"""The ledger loses its keys, and a transaction may be given back in parts: the database sees to it that these never
exceed it, nor captures their hold.

From here on servers of version 1 cannot write, so the keys that they brought last are copied under the lock.
"""

from importlib import import_module

from django.db import migrations

from lokanetra import online
from transactions.triggers import allow, allow_parts, forbid, forbid_excess

KEYS = import_module("transactions.migrations.0006_copy_keys")
RESTORE = """
    UPDATE transactions_transaction SET idempotency_key = kept.key, request_hash = kept.request_hash
    FROM wallet_key AS kept WHERE kept.transaction_id = transactions_transaction.id
"""
IN_PARTS = "SELECT reverses_id FROM transactions_transaction WHERE reverses_id IS NOT NULL GROUP BY 1 HAVING count(*) > 1"


def copy_the_last(apps, schema_editor):
    start = KEYS.copied(schema_editor)
    if online.is_postgresql(schema_editor):
        schema_editor.execute("LOCK TABLE transactions_transaction IN ACCESS EXCLUSIVE MODE")
    schema_editor.execute(KEYS.COPY, [start, 2**62])
    if online.is_postgresql(schema_editor):
        schema_editor.execute("SET CONSTRAINTS ALL IMMEDIATE")


def restore(apps, schema_editor):
    schema_editor.execute(RESTORE)
    forbid(apps, schema_editor)


def prepare_to_restore(apps, schema_editor):
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(IN_PARTS)
        if cursor.fetchone():
            raise ValueError("Some transactions were given back in parts: version 1 cannot keep these.")
    allow_parts(apps, schema_editor)
    allow(apps, schema_editor)


class Migration(migrations.Migration):
    dependencies = [("transactions", "0006_copy_keys")]

    operations = [
        online.SHORT_LOCKS,
        migrations.RunPython(copy_the_last, restore, elidable=False),
        migrations.RemoveConstraint("transaction", "transactions_transaction_key_with_hash"),
        migrations.RemoveConstraint("transaction", "transactions_transaction_key_once"),
        migrations.RemoveConstraint("transaction", "transactions_transaction_reversed_once"),
        migrations.RemoveField("transaction", "idempotency_key"),
        migrations.RemoveField("transaction", "request_hash"),
        migrations.RunPython(forbid, prepare_to_restore, elidable=False),
        migrations.RunPython(forbid_excess, migrations.RunPython.noop, elidable=False),
    ]
