"""The outbox and the events. On PostgreSQL the outbox is swept often: all of its rows are soon dead ones, and who looks
for the living passes over them."""

import django.core.serializers.json
import django.db.models.deletion
from django.db import migrations, models

from lokanetra.online import is_postgresql

OFTEN = "autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000"
TYPES = [
    ("transaction.created", "Transaction Created"),
    ("hold.opened", "Hold Opened"),
    ("hold.captured", "Hold Captured"),
    ("hold.voided", "Hold Voided"),
    ("hold.expired", "Hold Expired"),
    ("wallet.created", "Wallet Created"),
    ("wallet.frozen", "Wallet Frozen"),
    ("wallet.unfrozen", "Wallet Unfrozen"),
    ("user.deactivated", "User Deactivated"),
]


def sweep_often(apps, schema_editor):
    if is_postgresql(schema_editor):
        schema_editor.execute(f"ALTER TABLE transactions_outbox SET ({OFTEN})")


def of_one_thing(name):
    return models.CheckConstraint(
        name=name,
        condition=models.Q(type="transaction.created", transaction__isnull=False, data__isnull=True)
        | (~models.Q(type="transaction.created") & models.Q(transaction=None, data__isnull=False)),
    )


def change():
    encoder = django.core.serializers.json.DjangoJSONEncoder
    row = models.ForeignKey(
        to="transactions.transaction",
        on_delete=django.db.models.deletion.DO_NOTHING,
        related_name="+",
        null=True,
        db_index=False,
        db_constraint=False,
    )
    return [
        ("type", models.CharField(max_length=32, choices=TYPES)),
        ("timestamp", models.DateTimeField()),
        ("data", models.JSONField(encoder=encoder, null=True)),
        ("transaction", row),
    ]


class Migration(migrations.Migration):
    dependencies = [("transactions", "0007_one_key_table_and_refunds_in_parts")]

    operations = [
        migrations.CreateModel(
            name="Outbox",
            fields=[
                ("id", models.BigAutoField(primary_key=True, auto_created=True, serialize=False, verbose_name="ID")),
                *change(),
            ],
            options={
                "abstract": False,
                "default_permissions": (),
                "constraints": [of_one_thing("transactions_outbox_of_one_thing")],
            },
        ),
        migrations.CreateModel(
            name="Event",
            fields=[("id", models.BigIntegerField(primary_key=True, serialize=False)), *change()],
            options={
                "abstract": False,
                "default_permissions": ("view",),
                "constraints": [of_one_thing("transactions_event_of_one_thing")],
            },
        ),
        migrations.RunPython(sweep_often, migrations.RunPython.noop),
    ]
