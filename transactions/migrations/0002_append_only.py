"""The database itself refuses to change or delete a row of the ledger. Costs nothing on insert."""

from django.db import migrations

from transactions import triggers

FUNCTION = """
    CREATE FUNCTION transactions_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'the ledger is append-only' USING ERRCODE = 'integrity_constraint_violation';
    END $$
"""


def forbid(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(FUNCTION)
    triggers.forbid(apps, schema_editor)


def allow(apps, schema_editor):
    triggers.allow(apps, schema_editor)
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP FUNCTION transactions_append_only()")


class Migration(migrations.Migration):
    dependencies = [("transactions", "0001_ledger")]

    operations = [migrations.RunPython(forbid, allow, elidable=False)]
