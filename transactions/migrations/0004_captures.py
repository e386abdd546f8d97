"""Transactions know the hold that they capture."""

import django.db.models.deletion
from django.db import migrations, models

from lokanetra import online
from transactions.triggers import forbid


class Migration(migrations.Migration):
    dependencies = [("transactions", "0003_day_volumes_anew"), ("wallet", "0003_tiers_holds_and_keys")]

    operations = [
        online.SHORT_LOCKS,
        migrations.RunPython(migrations.RunPython.noop, forbid, elidable=False),
        migrations.AddField(
            "transaction",
            "hold",
            models.ForeignKey(
                "wallet.hold", django.db.models.deletion.PROTECT, null=True, related_name="captures", db_index=False
            ),
        ),
        online.AddConstraint(
            "transaction",
            models.CheckConstraint(
                name="transactions_transaction_capture_is_transfer",
                condition=models.Q(hold=None) | models.Q(transaction_type="TRANSFER", reverses=None),
            ),
        ),
        migrations.RunPython(forbid, migrations.RunPython.noop, elidable=False),
    ]
