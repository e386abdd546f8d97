"""The database itself refuses to change or delete a row of the ledger.

Costs nothing on insert. On SQLite a later migration that alters the table makes a new one without these triggers:
it must run `forbid` again, which a test holds it to.
"""

from django.db import migrations

POSTGRESQL = [
    """
    CREATE FUNCTION transactions_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'the ledger is append-only' USING ERRCODE = 'integrity_constraint_violation';
    END $$
    """,
    """
    CREATE TRIGGER transactions_append_only BEFORE UPDATE OR DELETE ON transactions_transaction
    FOR EACH ROW EXECUTE FUNCTION transactions_append_only()
    """,
    """
    CREATE TRIGGER transactions_no_truncate BEFORE TRUNCATE ON transactions_transaction
    FOR EACH STATEMENT EXECUTE FUNCTION transactions_append_only()
    """,
]
POSTGRESQL_REVERSE = [
    "DROP TRIGGER transactions_no_truncate ON transactions_transaction",
    "DROP TRIGGER transactions_append_only ON transactions_transaction",
    "DROP FUNCTION transactions_append_only()",
]
SQLITE = [
    f"""
    CREATE TRIGGER transactions_no_{verb} BEFORE {verb} ON transactions_transaction
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END
    """
    for verb in ("update", "delete")
]
SQLITE_REVERSE = ["DROP TRIGGER transactions_no_update", "DROP TRIGGER transactions_no_delete"]


def forbid(apps, schema_editor):
    for statement in POSTGRESQL if schema_editor.connection.vendor == "postgresql" else SQLITE:
        schema_editor.execute(statement)


def allow(apps, schema_editor):
    for statement in POSTGRESQL_REVERSE if schema_editor.connection.vendor == "postgresql" else SQLITE_REVERSE:
        schema_editor.execute(statement)


class Migration(migrations.Migration):
    dependencies = [("transactions", "0001_ledger")]

    operations = [migrations.RunPython(forbid, allow, elidable=False)]
